"""`python -m blockwise_predict` is the same as `predict`."""

from blockwise_predict.cli import main

if __name__ == "__main__":
    main()
