"""Makes train.csv and test.csv from the data set that scikit-learn brings: `python data/prepare.py`.

Breast Cancer Wisconsin (Diagnostic), W. H. Wolberg, W. N. Street and O. L. Mangasarian, UCI Machine Learning
Repository 1995, https://doi.org/10.24432/C5DW2B, CC BY 4.0. Kept are the ten means over the cell nuclei of a
needle biopsy; `malignant` is 1 for a malignant tumour. Every third row is for testing.
"""

from pathlib import Path

from sklearn.datasets import load_breast_cancer

FOLDER = Path(__file__).parent


def prepare(target: Path) -> None:
    """Write both splits into the folder `target`."""
    frame = load_breast_cancer(as_frame=True).frame
    means = {name: name.removeprefix("mean ").replace(" ", "_") for name in frame if name.startswith("mean ")}
    table = frame[list(means)].rename(columns=means)
    table["malignant"] = 1 - frame["target"]
    tested = table.index % 3 == 2
    for name, split in (("train.csv", table[~tested]), ("test.csv", table[tested])):
        split.to_csv(target / name, index=False, lineterminator="\n")


if __name__ == "__main__":
    prepare(FOLDER)
