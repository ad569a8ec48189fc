"""How right the model is: metrics as sums, labels that come late, concept drift, estimates. Pure: no I/O, no clock."""
