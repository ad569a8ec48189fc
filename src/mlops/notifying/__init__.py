"""What is said to people: the wording of alerts, sending through Apprise, and the outbox between the two.

`wording.message` makes a `Message` of an alert, `Outbox` keeps it beside the evaluation until it is delivered,
`Deliveries` sends what is due in child processes beside the loop. Planning reads `rows.standing`, which is pure.
"""
