#!/bin/sh
# An archive on Slurm's GPUs: slurm.sh with a GPU for each task. Run it, do not submit it; it submits slurm.sh:
#
#   ARCHIVE=/shared/films OUT=/shared/colored sh slurm-gpu.sh [more of `autochrome batch`: --model fast ...]
#
# Change here: how many tasks, and what goes with each GPU. The cores decode, encode and follow the motion.
# cuda:0 is the GPU that Slurm gave the task; a task without one ends with exit code 5 instead of going on slowly.
exec sbatch --array=0-3 --gres=gpu:1 --cpus-per-task=8 --mem=16G "$(dirname "$0")/slurm.sh" --device cuda:0 "$@"
