"""The exporter: a process that shows a running supervisor to Prometheus, to orchestrators and to browsers.

    supervisor <── control socket, once a second ── Watch ──> Reading ──┬──> /metrics          metrics.py
    (its reactor)                                                       ├──> /live, /ready     health.py
                                                                        └──> /, /events, ...   view.py, page.html

All clients are served from the same copy of the status, so neither a scrape nor a browser reaches the supervisor. The runner
starts this process (`[exporter] listen`), and restarts it if it ends.
"""
