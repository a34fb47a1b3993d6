#!/bin/sh
# Submits samples/cluster/slurm.sh as an array of three tasks, ends two of them midway, and waits until all is done:
#
#   ARCHIVE=... OUT=... AUTOCHROME=... sh tests/cluster/array.sh FOLDER [ARGUMENT of `autochrome batch`...]
#
# The first is told as the time limit tells it, the second as a preemption or an administrator does. Logs lie in FOLDER;
# a line about each task comes on standard output.
set -eu
folder=$1
shift
samples=$(dirname "$0")/../../samples/cluster

job=$(sbatch --parsable --array=0-2 --cpus-per-task=1 --mem=1G --time=10 --output="$folder/task-%a.log" \
  "$samples/slurm.sh" "$@")

# Tries a command every twentieth of a second, for a minute.
await() {
  tries=1200
  until "$@" 2>/dev/null; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || { echo "in vain for a minute: $*" >&2; squeue >&2; tail "$folder"/task-*.log >&2; exit 1; }
    sleep 0.05
  done
}

no_jobs() {
  [ -z "$(squeue -h)" ]
}

await test -s "$folder/task-0.log"
await test -s "$folder/task-1.log"
await test -d "$OUT/.autochrome"
scontrol requeue "${job}_1"
# It is sent at once; then scancel may wait for a task that is on its way to the queue, and send it again.
timeout 2 scancel --signal=USR1 --batch "${job}_0" || true
await no_jobs

for task in 0 1 2; do
  shown=$(scontrol --oneliner show job "${job}_$task" | tr ' ' '\n')
  echo "task $task: $(echo "$shown" | grep '^JobState='), $(echo "$shown" | grep '^Restarts=')"
done
