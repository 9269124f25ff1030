#!/usr/bin/env python3
"""// Makes the recording: real servers, a small load, faults on purpose, and what was logged meanwhile.
//
// Why it exists: Harbinger's demo and tests need real input whose truth is known. Public log sets do not say
// what was broken when; here somebody breaks it, and writes down the second.
// In:  Debian's postgresql-15, nginx, redis; shop.py (the application), traffic.py (customers), jobs.py (operators).
// Out: recording.jsonl.gz (OTLP JSON lines) and truth.json (what was broken, when, how it shows), by assemble.py
//      from `raw.jsonl` and `story.json`, which stay in the work folder so that assembling can be repeated.
// Promises: every line was written by a server because of what really happened to it. Everything runs in its
//      own network, mount, host name and process namespaces with addresses 10.20.x: nothing of this machine
//      gets into the lines, no port of it is used, and all processes and mounts end with the script.
// Deliberately absent: fake lines, sleep-free time (a run takes as long as it says), shutdown lines at the end.
//
// Usage, as root: record.py [--rehearse] [--faults a,b] [--work DIR] [--warm-up S] [--quiet S] [--tail S]
// A new phase is one function in FAULTS: break something, yield while it is broken, repair it.
"""
import argparse, json, os, pathlib, shutil, socket, subprocess, sys, threading, time, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = "postgresql nginx-light redis-server python3-psycopg2 iproute2"
PGBIN = "/usr/lib/postgresql/15/bin"
LOGS, RUN, PGDATA, SPACE, REDIS = "/var/log/stack", "/run/stack", "/var/lib/stack/pg", "/var/lib/stack/space", "/var/lib/stack/redis"
NEEDED = [f"{PGBIN}/postgres", "/usr/sbin/nginx", "/usr/bin/redis-server", "/usr/sbin/ip", "/usr/lib/python3/dist-packages/psycopg2"]

POSTGRES = f"""
listen_addresses = '10.20.0.12'
unix_socket_directories = '{RUN}'
max_connections = 30
superuser_reserved_connections = 3
shared_buffers = 64MB
work_mem = 256kB
fsync = on
lc_messages = '{{lc_messages}}'
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
log_connections = on
log_disconnections = on
log_lock_waits = on
log_temp_files = 0
log_min_duration_statement = 400
log_autovacuum_min_duration = 0
autovacuum_naptime = 20s
autovacuum_vacuum_scale_factor = 0.0
autovacuum_vacuum_threshold = 60
autovacuum_vacuum_insert_threshold = 150
autovacuum_vacuum_insert_scale_factor = 0.0
autovacuum_analyze_scale_factor = 0.0
autovacuum_analyze_threshold = 80
checkpoint_timeout = 45s
deadlock_timeout = 1s
temp_tablespaces = 'bulk'
"""
HBA = "local all all trust\nhost shop shop,analyst 10.20.0.0/16 scram-sha-256\n"
SCHEMA = f"""
CREATE TABLESPACE bulk LOCATION '{SPACE}';
CREATE ROLE shop LOGIN PASSWORD 'shop-demo';
CREATE ROLE analyst LOGIN PASSWORD 'analyst-demo' IN ROLE pg_read_all_data;
CREATE DATABASE shop OWNER shop;
\\c shop
GRANT CREATE ON TABLESPACE bulk TO shop, analyst;
SET ROLE shop;
SELECT setseed(0.42);
CREATE TABLE products (id int PRIMARY KEY, name text, price numeric(8,2), stock int);
INSERT INTO products SELECT i, (ARRAY['oak','steel','green','folding'])[i % 4 + 1] || ' ' || (ARRAY['lamp','chair','table','sofa','shelf'])[i % 5 + 1],
       (random() * 300 + 5)::numeric(8,2), 3 + (random() * 40)::int FROM generate_series(1, 400) i;
CREATE TABLE product_views (product_id int PRIMARY KEY, views int) TABLESPACE bulk;
INSERT INTO product_views SELECT i, 0 FROM generate_series(1, 400) i;
CREATE TABLE accounts (id serial PRIMARY KEY, name text UNIQUE, password text);
INSERT INTO accounts (name, password) SELECT 'user_' || i, 'demo' FROM generate_series(0, 40) i;
CREATE TABLE orders (id serial PRIMARY KEY, account text, total numeric(10,2), document text) TABLESPACE bulk;
ALTER TABLE orders ALTER document SET STORAGE PLAIN;
INSERT INTO orders (account, total) SELECT 'user_' || i % 40, 20 + i FROM generate_series(1, 60) i;
CREATE TABLE reviews (id serial PRIMARY KEY, product_id int, stars int, body text) TABLESPACE bulk;
INSERT INTO reviews (product_id, stars, body) SELECT i % 400 + 1, i % 5 + 1, 'good' FROM generate_series(1, 800) i;
CREATE TABLE audit_log (at timestamptz DEFAULT now(), kind text, detail text) TABLESPACE bulk;
"""
NGINX = f"""
user www-data;
worker_processes 2;
pid {RUN}/nginx.pid;
error_log {LOGS}/nginx-error.log info;
events {{ worker_connections 512; }}
http {{
  include /etc/nginx/mime.types;
  log_format recorded '$msec|$request_id|$remote_addr|$request $status $body_bytes_sent $request_time $http_user_agent';
  access_log {LOGS}/nginx-access.log recorded;
  client_max_body_size 1m;
  client_body_buffer_size 16k;
  keepalive_timeout 20s;
  proxy_read_timeout 60s;
  map $http_user_agent $crawler {{ default ""; ~Googlebot $remote_addr; }}
  limit_req_zone $crawler zone=crawlers:1m rate=2r/s;
  limit_req_status 429;
  upstream shop {{ server 10.20.0.11:8000; keepalive 8; }}
  server {{
    listen 10.20.0.10:80;
    server_name shop;
    root /srv/www;
    location / {{
      limit_req zone=crawlers burst=4 nodelay;
      proxy_pass http://shop;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Request-ID $request_id;
    }}
    location /static/ {{ }}
    location = /robots.txt {{ }}
    location /admin/ {{ auth_basic "shop"; auth_basic_user_file /srv/www/.users; }}
    location /internal/ {{ deny all; }}
  }}
}}
"""
REDIS_CONF = f"""
bind 10.20.0.13
port 6379
protected-mode no
dir {REDIS}
loglevel verbose
always-show-logo no
save 15 10
maxmemory 32mb
maxmemory-policy allkeys-lru
"""


class Stack:
    """The running servers, and the reader of their logs."""

    def __init__(self, args):
        self.args, self.processes, self.began = args, {}, time.monotonic()
        self.work = pathlib.Path(args.work)
        self.raw = open(self.work / "raw.jsonl", "w")
        self.story, self.watch, self.seen = [], None, 0

    def say(self, text):
        print(f"[{time.monotonic() - self.began:7.1f}s] {text}", flush=True)

    def start(self, name, argv, user=None, log=None):
        out = open(log or self.work / f"{name}.out", "ab")
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        self.processes[name] = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, user=user, group=user, extra_groups=[] if user else None, env=env, cwd="/")
        return self.processes[name]

    def start_shop(self):
        self.start("shop", ["/usr/bin/python3", "/srv/shop/shop.py", str(self.args.seed)], "www-data", f"{LOGS}/shop.log")

    def read_logs(self):
        """Follows the files as a log shipper does; what it read when is the observed time."""
        files = {name: open(f"{LOGS}/{name}.log", "rb") for name in ("postgresql", "redis", "nginx-access", "nginx-error", "shop")}
        rest = dict.fromkeys(files, b"")
        while True:
            now = time.time_ns()
            for name, file in files.items():
                data = rest[name] + file.read()
                lines = data.split(b"\n")
                rest[name] = lines.pop()
                for line in lines:
                    text = line.decode("utf-8", "replace")
                    self.raw.write(json.dumps([now, name, text], ensure_ascii=False) + "\n")
                    if self.watch and any(part in text for part in self.watch):
                        self.seen += 1
            self.raw.flush()
            time.sleep(0.1)

    def healthy(self, path="/healthz"):
        try:
            request = urllib.request.Request("http://10.20.0.10" + path, headers={"User-Agent": "kube-probe/1.30"})
            return urllib.request.urlopen(request, timeout=30).status == 200
        except OSError:
            return False

    def wait(self, seconds, what):
        self.say(f"{what} for {seconds:.0f} s")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    sys.exit(f"{name} ended with {process.returncode}; see {self.work}")
            time.sleep(0.5)


def shell(command, **more):
    return subprocess.run(command, shell=isinstance(command, str), check=True, stdout=subprocess.DEVNULL, **more)


def prepare(stack):
    """The namespaces' inside: addresses, folders, data directories. Nothing of it outlives the script."""
    work = stack.work
    shell("hostname shop-1; ip link set lo up; ip addr add 10.20.0.1/16 dev lo; mount --make-rprivate /")
    for inside in ("/var/log", "/run", "/var/lib/stack", "/srv"):
        outside = work / "root" / inside.strip("/").replace("/", "-")
        outside.mkdir(parents=True, exist_ok=True)
        pathlib.Path(inside).mkdir(exist_ok=True)
        shell(["mount", "--bind", str(outside), inside])
    for folder in (LOGS, RUN, PGDATA, SPACE, REDIS, "/srv/www/static", "/srv/www/admin", "/srv/shop"):
        os.makedirs(folder)
    shell(f"mount -t tmpfs -o size=80m tmpfs {SPACE}; mount -t tmpfs -o size=4m tmpfs {REDIS}; mount --bind {HERE} /srv/shop; chmod 711 {work}")
    for folder, user in ((PGDATA, "postgres"), (SPACE, "postgres"), (REDIS, "redis")):
        shutil.chown(folder, user, user)
        os.chmod(folder, 0o700)
    os.chmod(LOGS, 0o777)
    os.chmod(RUN, 0o777)
    for name in ("postgresql", "redis", "nginx-access", "nginx-error", "shop"):
        open(f"{LOGS}/{name}.log", "w").close()
        os.chmod(f"{LOGS}/{name}.log", 0o666)
    for name, text in (("robots.txt", "User-agent: *\n"), ("static/shop.css", "body{}" * 90), ("static/shop.js", "//x\n" * 300),
                       ("static/logo.svg", "<svg/>" * 40), ("admin/index.html", "admin\n"), (".users", "admin:{PLAIN}demo\n")):
        pathlib.Path("/srv/www", name).write_text(text)
    pathlib.Path(RUN, "nginx.conf").write_text(NGINX)
    pathlib.Path(REDIS, "redis.conf").write_text(REDIS_CONF)
    shutil.chown(f"{REDIS}/redis.conf", "redis", "redis")
    as_pg = dict(user="postgres", group="postgres", extra_groups=[], cwd="/")
    shell([f"{PGBIN}/initdb", "-D", PGDATA, "-U", "postgres", "--locale=C.UTF-8", "-E", "UTF8"], **as_pg)
    pathlib.Path(PGDATA, "pg_hba.conf").write_text(HBA)
    with open(f"{PGDATA}/postgresql.conf", "a") as conf:
        conf.write(POSTGRES.format(lc_messages=stack.args.lc_messages))
    control = [f"{PGBIN}/pg_ctl", "-D", PGDATA, "-w", "-l", "/dev/null"]
    shell(control + ["start"], **as_pg)
    shell([f"{PGBIN}/psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", RUN, "postgres"], input=SCHEMA.encode(), **as_pg)
    shell(control + ["stop"], **as_pg)


def start(stack):
    threading.Thread(target=stack.read_logs, daemon=True).start()
    stack.start("postgresql", [f"{PGBIN}/postgres", "-D", PGDATA], "postgres", f"{LOGS}/postgresql.log")
    stack.start("redis", ["/usr/bin/redis-server", f"{REDIS}/redis.conf"], "redis", f"{LOGS}/redis.log")
    time.sleep(2)
    stack.start_shop()
    time.sleep(1.5)
    stack.start("nginx", ["/usr/sbin/nginx", "-e", f"{LOGS}/nginx-error.log", "-c", f"{RUN}/nginx.conf", "-p", "/srv/www", "-g", "daemon off;"])
    time.sleep(1.5)
    if not stack.healthy():
        sys.exit(f"the stack did not start; see {stack.work}")
    stack.start("traffic", ["/usr/bin/python3", str(HERE / "traffic.py"), str(stack.args.seed)])
    stack.start("jobs", ["/usr/bin/python3", str(HERE / "jobs.py"), str(stack.args.seed), "0.25" if stack.args.rehearse else "1"])


# The faults: each breaks something, yields the seconds to leave it broken, and repairs it.

def backend_killed(stack):
    process = stack.processes.pop("shop")
    process.kill()
    process.wait()
    yield 45
    stack.start_shop()


def redis_cannot_persist(stack):
    ballast(f"{REDIS}/core.dump")
    yield 70
    os.remove(f"{REDIS}/core.dump")
    with socket.create_connection(("10.20.0.13", 6379), timeout=30) as sock:
        sock.sendall(b"BGSAVE SCHEDULE\r\n")          # it takes writes again after the first good save
        sock.recv(4096)
    time.sleep(2)


def postgres_connections_exhausted(stack):
    stack.start("leak", ["/usr/bin/python3", "-c", LEAK])
    yield 60
    stack.processes.pop("leak").kill()


def stuck_transaction(stack):
    stack.start("migration", ["/usr/bin/python3", "-c", MIGRATION])
    yield 85
    stack.processes.pop("migration").kill()


def postgres_disk_full(stack):
    ballast(f"{SPACE}/export.csv")
    yield 75
    os.remove(f"{SPACE}/export.csv")


def ballast(path):
    block = os.urandom(4096)
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(block)
        except OSError:
            pass


# a leaking report tool takes every connection it can get; then someone looks on as superuser, and takes the reserve
LEAK = f"""
import psycopg2, time
held, began = [], time.monotonic()
while True:
    dsn = "host={RUN} dbname=shop user=postgres application_name=ops" if time.monotonic() - began > 20 else \\
          "host=10.20.0.12 dbname=shop user=analyst password=analyst-demo application_name=reports"
    try:
        conn = psycopg2.connect(dsn)
        conn.cursor().execute("SELECT 1")
        held.append(conn)
    except psycopg2.Error:
        time.sleep(0.7)
"""
# two workers of a price migration go through the products from opposite ends, again and again; then one stops with its locks held
MIGRATION = f"""
import psycopg2, threading, time
began = time.monotonic()

def worker(order, stays):
    while stays or time.monotonic() - began < 45:
        conn = psycopg2.connect("host={RUN} dbname=shop user=postgres application_name=migration")
        stuck = time.monotonic() - began > 45
        try:
            for pid in order:
                conn.cursor().execute("UPDATE products SET price = price * 1.01 WHERE id = %s", (pid,))
                time.sleep(0 if stuck else 0.015)
            time.sleep(3600 if stuck else 0.5)
        except psycopg2.errors.DeadlockDetected:
            pass
        conn.close()
        time.sleep(1)

threading.Thread(target=worker, args=(range(1, 141), True)).start()
worker(range(140, 0, -1), False)
"""
# name: function, what was broken, services affected, substrings typical of its lines (stream, text)
FAULTS = {
    "backend_killed": (backend_killed, "The shop's process was killed with SIGKILL and started again 45 seconds later, so nginx had no upstream.",
        ["nginx", "shop", "postgresql"], ["connect() failed (111: Connection refused) while connecting to upstream", " HTTP/1.1 502 "]),
    "redis_cannot_persist": (redis_cannot_persist, "The file system of Redis was filled, so that background saves failed and Redis refused writes (MISCONF); the file was removed after 70 seconds.",
        ["redis", "shop", "nginx"], ["MISCONF Redis is configured to save RDB snapshots", "Background saving error", "Write error saving DB on disk"]),
    "postgres_connections_exhausted": (postgres_connections_exhausted, "A leaking report tool opened PostgreSQL connections and kept them until none was left, for 60 seconds.",
        ["postgresql", "shop", "nginx"], ["remaining connection slots are reserved", "sorry, too many clients already", "database unavailable for"]),
    "stuck_transaction": (stuck_transaction, "Two workers of a price migration locked products from opposite ends, then one stopped with its locks held, 85 seconds in all: deadlocks and lock time-outs.",
        ["postgresql", "shop", "nginx"], ["canceling statement due to lock timeout", "deadlock detected", "gave up after attempt"]),
    "postgres_disk_full": (postgres_disk_full, "The file system of PostgreSQL's tablespace was filled and freed after 75 seconds.",
        ["postgresql", "shop", "nginx"], ["No space left on device", "could not extend file", "psycopg2.errors.DiskFull"]),
}


def play(stack):
    args, short = stack.args, stack.args.rehearse
    stack.began = time.monotonic()
    start(stack)
    stack.wait(args.warm_up, "healthy warm-up")
    for number, name in enumerate(args.faults.split(",")):
        run, description, services, symptoms = FAULTS[name]
        if number:
            stack.wait(args.quiet, "quiet")
        stack.watch, stack.seen = symptoms, 0
        began = time.time_ns()
        steps = run(stack)
        seconds = next(steps)
        stack.wait(seconds if not short or "redis" in name or "stuck" in name else seconds / 2, f"fault {name}")
        next(steps, None)
        while not stack.healthy():
            time.sleep(0.5)
        time.sleep(1)
        stack.story.append({"name": name, "description": description, "services": services, "symptoms": symptoms, "start": began, "repaired": time.time_ns()})
        stack.say(f"repaired; {stack.seen} lines with its symptoms")
        stack.watch = None
        (stack.work / "story.json").write_text(json.dumps(stack.story, indent=1))
    stack.wait(args.tail, "healthy end")
    stack.raw.flush()


def main():
    parser = argparse.ArgumentParser(description="record real servers while things break", epilog="faults: " + ",".join(FAULTS))
    parser.add_argument("--rehearse", action="store_true", help="five minutes instead of forty")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--work", help="folder for raw logs (kept)")
    parser.add_argument("--out", help="folder for recording.jsonl.gz and truth.json", default=str(HERE))
    parser.add_argument("--warm-up", type=float)
    parser.add_argument("--quiet", type=float)
    parser.add_argument("--tail", type=float)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--lc-messages", default="C", help="language of PostgreSQL's messages, if the locale is installed")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    for key, real, short in (("warm_up", 545, 40), ("quiet", 352, 8), ("tail", 185, 10)):
        if getattr(args, key) is None:
            setattr(args, key, short if args.rehearse else real)
    if args.inside:
        stack = Stack(args)
        prepare(stack)
        play(stack)
        os._exit(0)
    missing = [path for path in NEEDED if not os.path.exists(path)]
    if missing or os.getuid() != 0:
        sys.exit(f"needs root and {', '.join(missing) or 'nothing else'}:\n  apt-get install --no-install-recommends {PACKAGES}")
    args.work = args.work or f"/tmp/harbinger-recording-{os.getpid()}"
    shutil.rmtree(args.work, ignore_errors=True)
    os.makedirs(args.work)
    print(f"raw logs: {args.work}")
    inside = [f"--{key.replace('_', '-')}={getattr(args, key)}" for key in ("faults", "work", "warm_up", "quiet", "tail", "seed", "lc_messages")]
    shell_free = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "/usr/bin/python3", "-B", str(HERE / "record.py"), "--inside"]
    code = subprocess.run(shell_free + inside + (["--rehearse"] if args.rehearse else [])).returncode
    if code:
        sys.exit(code)
    subprocess.run([sys.executable, str(HERE / "assemble.py"), args.work, args.out], check=True)


if __name__ == "__main__":
    main()
