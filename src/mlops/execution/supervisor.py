"""Entry of a job's supervisor, run by path with `python -I -S`: `supervisor.py FOLDER LOCK_FD`.

Only this file is compiled at each start; what it imports has cached bytecode.
"""

import sys

if __name__ == "__main__":
    sys.path.append(__file__.rsplit("/", 3)[0])  # without site: the standard library and this package only
    from mlops.execution.supervision import main

    main(sys.argv[1], int(sys.argv[2]))
