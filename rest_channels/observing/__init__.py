"""Events of sockets as small values for observers: metrics, logs, traces, signals."""
