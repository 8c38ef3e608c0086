"""The command `l2o`."""

from l2o.config.main import main

if __name__ == "__main__":
    main()
