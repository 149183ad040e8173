"""Claims about language models, in a world where every answer can be marked: a small Llama, trained on the spot.

The bench:

setting.py        what a training is: the world, the arm, its tuned numbers
bases.py          base models, each made once
training.py       the project's trainer, for short trainings on one core
data.py           what the arms train on; arms.py the two that most claims share
job.py            one training and what its model answers
pool.py           jobs in processes of their own, and what they found in the store; quiet.py keeps them silent
bench.py          many jobs: tuning on validation gold, equal for every arm, then seeds with paired instructions

The claims, by what they ask (`claims_<room>.py` has their wording, `data_` and `measures_` what their trainings need):

controls.py       relabelled against plain training, asked in the same words; conditions.py: what the gain needs
variants.py       which copies, which scores, which regulariser, how many pairs
rivals.py         other losses and other ways of conditioning
selecting.py      which pairs to train on, over shares and rounds; self-play
overoptimised.py  training too far, over beta and over one epoch (curves_overoptimised.py)
"""
