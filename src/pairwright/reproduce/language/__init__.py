"""Claims about language models, in a world where every answer can be marked: a small Llama, trained on the spot.

setting.py        what a training is: the world, the arm, its tuned numbers
bases.py          base models, each made once
job.py            one training and what its model answers, in a process of its own
bench.py          many of them: tuning on validation gold, equal for every arm, then seeds with paired instructions
"""
