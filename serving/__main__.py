"""`python -m serving`: the champion answers on this machine."""

from loopbook.serving import run

if __name__ == "__main__":
    run(extension="serving.routes")
