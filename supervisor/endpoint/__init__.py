"""One endpoint at run time: its connection over owner after owner, restarts, replicas, changes of settings."""
