"""// The operators: what happens around a healthy shop, on a timetable.
//
// Why it exists: real servers also log reloads, reports, backups, mistyped passwords and sessions that break
// off. None of it is a fault, so all of it has to be in the recording often, from the first minutes on.
// In:  a seed; a factor for the periods (rehearsals are shorter).
// Out: sessions on PostgreSQL and Redis, SIGHUP to nginx (pid file); own trouble goes to standard error, unrecorded.
// Promises: a fixed timetable; a job that fails is dropped until its next turn.
// Deliberately absent: the faults (see record.py).
"""
import os, signal, socket, struct, subprocess, sys, time, threading, random

import psycopg2

ANALYST = "host=10.20.0.12 dbname=shop user=analyst password=analyst-demo application_name=reports connect_timeout=30"
OPS = "host=/run/stack dbname=shop user=postgres application_name=ops"


def query(dsn, *statements):
    conn = psycopg2.connect(dsn)
    conn.autocommit = True
    try:
        for text in statements:
            conn.cursor().execute(text)
    finally:
        conn.close()


def sales_report():
    """Sorts more than work_mem holds: a slow statement and a temporary file."""
    query(ANALYST, "SELECT account, count(*), sum(total), max(md5(i::text || account)) FROM orders, generate_series(1, 320) i GROUP BY account, i ORDER BY 4 LIMIT 50")


def stock_report():
    query(ANALYST, "SELECT count(*) FILTER (WHERE p.stock < q.stock), stddev(p.price * q.price) FROM products p, products q, generate_series(1, 28)")


def too_long_report():
    query(ANALYST, "SET statement_timeout = '300ms'", "SELECT sum(length(md5(i::text))) FROM generate_series(1, 9000000) i")


def wrong_query():
    query(ANALYST, random.choice(["SELECT count(*) FROM order", "SELECT turnover FROM orders"]))


def wrong_password():
    query(ANALYST.replace("analyst-demo", "analyst"))


def broken_off(reset):
    """An analyst's laptop goes to sleep inside a transaction."""
    conn = psycopg2.connect(ANALYST)
    conn.cursor().execute("SELECT count(*) FROM accounts")
    sock = socket.fromfd(conn.fileno(), socket.AF_INET, socket.SOCK_STREAM)
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.dup2(os.open("/dev/null", os.O_RDWR), conn.fileno())
        sock.close()
    else:
        sock.shutdown(socket.SHUT_RDWR)


def recount():
    """Stock taking holds some rows for a moment: a lock wait that ends by itself."""
    conn = psycopg2.connect(OPS)
    conn.cursor().execute("SELECT id FROM products WHERE id BETWEEN 1 AND 120 ORDER BY id FOR UPDATE")
    conn.cursor().execute("UPDATE products SET stock = stock + 1 WHERE id BETWEEN 1 AND 120 AND stock = 3")
    time.sleep(2.2)
    conn.commit()
    conn.close()


turn = 0


def reload_postgres():
    global turn
    turn += 1
    query(OPS, f"ALTER SYSTEM SET effective_cache_size = '{256 + 16 * (turn % 2)}MB'", "SELECT pg_reload_conf()")


def reload_nginx():
    with open("/run/stack/nginx.pid") as file:
        os.kill(int(file.read()), signal.SIGHUP)


def backup():
    subprocess.run(["/usr/lib/postgresql/15/bin/pg_dump", "-h", "/run/stack", "-U", "postgres", "-t", "accounts", "-f", "/dev/null", "shop"], timeout=60)


def redis(*words):
    with socket.create_connection(("10.20.0.13", 6379), timeout=30) as sock:
        sock.sendall((" ".join(words) + "\r\n").encode())
        sock.recv(4096)


def maintenance():
    query(OPS, "ANALYZE", "CHECKPOINT")


# job, period, first turn (seconds)
TIMETABLE = [(sales_report, 55, 12), (stock_report, 70, 25), (too_long_report, 95, 40), (wrong_query, 85, 33), (wrong_password, 75, 20),
             (lambda: broken_off(False), 110, 45), (lambda: broken_off(True), 130, 60), (recount, 60, 30), (reload_postgres, 120, 50),
             (reload_nginx, 125, 65), (backup, 100, 35), (lambda: redis("BGSAVE"), 140, 55), (lambda: redis("CONFIG REWRITE"), 150, 75),
             (maintenance, 115, 80)]


def run(job, period, first, began):
    at = first
    while True:
        time.sleep(max(0, began + at - time.monotonic()))
        at += period
        try:
            job()
        except Exception as error:
            print(time.strftime("%H:%M:%S"), getattr(job, "__name__", "job"), str(error).strip()[:200], file=sys.stderr, flush=True)


def main():
    random.seed(int(sys.argv[1]))
    factor, began = float(sys.argv[2]), time.monotonic()
    for job, period, first in TIMETABLE:
        threading.Thread(target=run, args=(job, period * factor, first * factor, began), daemon=True).start()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
