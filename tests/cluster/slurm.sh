#!/bin/sh
# A Slurm of two nodes on this machine, for as long as a command runs:
#
#   sh tests/cluster/slurm.sh FOLDER COMMAND [ARGUMENT...]
#
# Everything of it lies in FOLDER, and nothing of it is left running. The command finds the cluster by SLURM_CONF; its
# exit code is the script's. Exit code 77: this machine cannot have a Slurm, with the reason on standard error.
set -u
[ $# -ge 2 ] || { echo "usage: slurm.sh FOLDER COMMAND [ARGUMENT...]" >&2; exit 2; }
folder=$1
shift
# Debian keeps the daemons where only root's path looks.
PATH=$PATH:/usr/sbin:/sbin
export PATH

no_slurm() {
  echo "no Slurm here: $1" >&2
  exit 77
}

[ "$(id -u)" = 0 ] || no_slurm "only root can start one"
for program in munged slurmctld slurmd sbatch scontrol; do
  command -v $program >/dev/null || no_slurm "there is no $program; apt-get install slurm-wlm munge"
done

is_free() {
  ! cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ":$(printf %04X "$1") "
}

# The first of three ports in a row that nobody listens on.
free_ports() {
  while :; do
    port=$(shuf -i 20000-32000 -n 1)
    is_free "$port" && is_free $((port + 1)) && is_free $((port + 2)) && break
  done
  echo "$port"
}

# The second partition takes the nodes from the first: its jobs are what a preemption is tried with. A queued job is
# begun again after cred_expire seconds; 5 is the least, 120 what others have.
write_settings() {
  host=$(hostname)
  port=$(free_ports)
  cat >"$SLURM_CONF" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=30
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 2))] CPUs=1 RealMemory=64000
PartitionName=low Nodes=n[1-2] Default=YES PriorityTier=1
PartitionName=high Nodes=n[1-2] PriorityTier=2
END
}

# Keeps a daemon in the foreground of a process of ours, so that its id is known.
start() {
  log=$1
  shift
  "$@" >"$folder/$log.log" 2>&1 &
  daemons="$! $daemons"
}

start_all() {
  # --force: the folder is root's, and munged would rather be a user of its own.
  start munged munged --foreground --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
    --pid-file="$folder/munged.pid" --seed-file="$folder/munge.seed" --log-file="$folder/munged.own.log"
  within 50 test -S "$folder/munge.socket" || failed "munged did not start"
  start slurmctld slurmctld -D -f "$SLURM_CONF"
  start n1 slurmd -D -N n1 -f "$SLURM_CONF"
  start n2 slurmd -D -N n2 -f "$SLURM_CONF"
  within 300 both_idle || failed "its nodes are not idle after half a minute"
}

# Tries a command every tenth of a second, so often.
within() {
  tries=$1
  shift
  until "$@" 2>/dev/null; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || return 1
    sleep 0.1
  done
}

both_idle() {
  [ "$(sinfo -h -p low -t idle -o %D)" = 2 ]
}

no_jobs() {
  [ -z "$(squeue -h)" ]
}

failed() {
  echo "Slurm: $1; the ends of its logs:" >&2
  tail -n 5 "$folder"/*.log >&2
  exit 1
}

# Jobs first: what they run belongs to no daemon that could take it along.
stop_all() {
  trap - EXIT
  trap '' INT TERM
  [ -z "$command" ] || kill "$command" 2>/dev/null
  if [ -n "$(squeue -h 2>/dev/null)" ]; then
    scancel --user=root --full --signal=KILL 2>/dev/null
    scancel --user=root 2>/dev/null
    within 100 no_jobs
  fi
  for daemon in $daemons; do
    kill "$daemon" 2>/dev/null
    wait "$daemon"
  done
}

mkdir -p "$folder/state" "$folder/spool.n1" "$folder/spool.n2" || exit 1
folder=$(cd "$folder" && pwd)
SLURM_CONF=$folder/slurm.conf
export SLURM_CONF
daemons=""
command=""
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
write_settings
(umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
start_all
# Beside this shell, which would hear no signal before a command in front of it has ended.
"$@" &
command=$!
wait "$command"
