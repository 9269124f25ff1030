"""// The shop: the application whose servers are recorded.
//
// Why it exists: databases and proxies only say interesting things when a program uses them. This is
// that program: catalogue, carts, checkout and accounts over HTTP, behind nginx, on PostgreSQL and Redis.
// In:  HTTP from nginx on 10.20.0.11:8000, header X-Request-ID is the trace id of every line it causes.
// Out: log lines on standard error, `time level logger [trace] message`, as any Python service writes them.
// Promises: failures of its servers are logged as they happen (a caught one as ERROR or WARNING, an
//      uncaught one as a traceback) and answered with 5xx; it recovers by itself when they do.
// Deliberately absent: frameworks, retries that hide faults, anything that fakes a log line.
"""
import json, logging, random, socket, sys, threading, time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import psycopg2.errors

PG = "host=10.20.0.12 port=5432 dbname=shop user=shop password=shop-demo application_name=shop connect_timeout=30"
REDIS = ("10.20.0.13", 6379)
CONNECTION_USES = 25            # a pooled connection is replaced after so many requests
SLOW_MS = 400

current = threading.local()


class WithTrace(logging.Formatter):
    def format(self, record):
        record.trace = getattr(current, "trace", "-")
        return super().format(record)


def logger(name):
    return logging.getLogger(name)


class RedisError(Exception):
    pass


class Redis:
    """The five lines of the Redis protocol that the shop needs, one connection per thread of use."""

    def __init__(self):
        self.idle, self.lock = [], threading.Lock()

    def __call__(self, *words):
        with self.lock:
            sock = self.idle.pop() if self.idle else None
        if sock is None:
            sock = socket.create_connection(REDIS, timeout=30).makefile("rwb")
        out = b"*%d\r\n" % len(words)
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            out += b"$%d\r\n%s\r\n" % (len(data), data)
        sock.write(out)
        sock.flush()
        answer = self.read(sock)
        with self.lock:
            self.idle.append(sock)
        if isinstance(answer, RedisError):
            raise answer
        return answer

    def read(self, sock):
        line = sock.readline()
        if not line:
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else sock.read(size + 2)[:-2]
        return [self.read(sock) for _ in range(int(rest))]


class Pool:
    """A pool that retires its connections, as poolers do: so the shop reconnects every few seconds."""

    def __init__(self):
        self.idle, self.lock, self.open = [], threading.Lock(), 0

    @contextmanager
    def connection(self):
        with self.lock:
            conn, uses = self.idle.pop() if self.idle else (None, 0)
        if conn is None:
            conn = psycopg2.connect(PG)
            self.open += 1
        keep = False
        try:
            with conn:
                yield conn.cursor()
            keep = True
        finally:
            keep = keep or (not conn.closed and conn.info.transaction_status == 0)
            if keep and uses + 1 < CONNECTION_USES:
                with self.lock:
                    self.idle.append((conn, uses + 1))
            else:
                conn.close()
                self.open -= 1


redis, pool = Redis(), Pool()


class Refused(Exception):
    """An answer that is not 200, and is nobody's fault."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def products(cur, where, args, limit=20, offset=0):
    cur.execute(f"SELECT id, name, price, stock FROM products WHERE {where} ORDER BY id LIMIT {limit} OFFSET {offset}", args)
    return [{"id": r[0], "name": r[1], "price": float(r[2]), "stock": r[3]} for r in cur.fetchall()]


def audit(kind, detail):
    """The audit trail must not stop a sale: a lost entry is a warning."""
    try:
        with pool.connection() as cur:
            cur.execute("INSERT INTO audit_log (kind, detail) VALUES (%s, %s)", (kind, detail + " " + random.randbytes(300).hex()))
    except psycopg2.Error as error:
        logger("shop.audit").warning("audit entry lost: %s", str(error).splitlines()[0])


def home(req):
    return {"shop": "demo", "offers": catalogue_page(1)[:4]}


def catalogue_page(page):
    cached = redis("GET", f"catalogue:{page}")
    if cached:
        return json.loads(cached)
    logger("shop.catalogue").info("cache miss for catalogue page %d, loading from database", page)
    with pool.connection() as cur:
        rows = products(cur, "true", (), offset=(page - 1) * 20)
    redis("SET", f"catalogue:{page}", json.dumps(rows), "EX", 20)
    return rows


def catalogue(req):
    return catalogue_page(int(req.query.get("page", "1")))


def product(req):
    with pool.connection() as cur:
        rows = products(cur, "id = %s", (int(req.parts[1]),))
        if not rows:
            raise Refused(404, "no such product")
        cur.execute("UPDATE product_views SET views = views + 1 WHERE product_id = %s AND random() < 0.3", (rows[0]["id"],))
    return rows[0]


def reviews(req):
    with pool.connection() as cur:
        if req.method == "POST":
            cur.execute("INSERT INTO reviews (product_id, stars, body) VALUES (%s, %s, %s)", (int(req.parts[1]), 4, req.body[:200].decode("latin-1")))
            logger("shop.reviews").info("review of product %s stored, %d bytes", req.parts[1], len(req.body))
            return {"stored": True}
        cur.execute("SELECT stars, left(body, 40) FROM reviews WHERE product_id = %s ORDER BY id DESC LIMIT 5", (int(req.parts[1]),))
        return cur.fetchall()


def search(req):
    word, began = req.query.get("q", ""), time.monotonic()
    with pool.connection() as cur:
        rows = products(cur, "name LIKE %s", (f"%{word}%",))
    if rows:
        logger("shop.search").info("search for '%s' found %d products in %.1f ms", word, len(rows), 1000 * (time.monotonic() - began))
    else:
        logger("shop.search").warning("search for '%s' found nothing", word)
    return rows


def compare(req):
    """An expensive page: every pair of prices. The slow query of the recording."""
    with pool.connection() as cur:
        cur.execute("SELECT count(*), avg(abs(a.price - b.price)) FROM products a, products b, generate_series(1, 55) WHERE a.price <> b.price")
        count, mean = cur.fetchone()
    return {"pairs": count, "mean": float(mean)}


def login(req):
    user, password = req.form["user"], req.form["password"]
    with pool.connection() as cur:
        cur.execute("SELECT password FROM accounts WHERE name = %s", (user,))
        row = cur.fetchone()
    if row is None or row[0] != password:
        logger("shop.accounts").warning("login refused for %s: wrong password", user)
        raise Refused(401, "wrong password")
    redis("SET", "session:" + req.session, user, "EX", 600)
    logger("shop.accounts").info("login accepted for %s", user)
    audit("login", user)
    return {"user": user}


def register(req):
    user = req.form["user"]
    try:
        with pool.connection() as cur:
            cur.execute("INSERT INTO accounts (name, password) VALUES (%s, %s)", (user, req.form["password"]))
    except psycopg2.errors.UniqueViolation:
        logger("shop.accounts").warning("registration refused: name %s is taken", user)
        raise Refused(409, "name taken") from None
    logger("shop.accounts").info("registered %s", user)
    audit("register", user)
    return {"user": user}


def cart(req):
    key = "cart:" + req.session
    if req.method == "POST":
        redis("HINCRBY", key, req.form["product"], req.form["count"])
        redis("EXPIRE", key, 900)
        logger("shop.cart").info("cart %s: added %s of product %s", req.session, req.form["count"], req.form["product"])
    elif req.method == "DELETE":
        gone = redis("HDEL", key, req.parts[2])
        logger("shop.cart").info("cart %s: removed product %s, %d lines gone", req.session, req.parts[2], gone)
    return content(req.session)


def content(session):
    flat = redis("HGETALL", "cart:" + session)
    return dict(zip([int(x) for x in flat[::2]], [int(x) for x in flat[1::2]]))


def account(req):
    user = redis("GET", "session:" + req.session)
    if user is None:
        logger("shop.accounts").info("account page without a session, redirected to login")
        raise Refused(401, "log in first")
    with pool.connection() as cur:
        cur.execute("SELECT id, total FROM orders WHERE account = %s ORDER BY id DESC LIMIT 5", (user.decode(),))
        return [[r[0], float(r[1])] for r in cur.fetchall()]


def order(req):
    with pool.connection() as cur:
        cur.execute("SELECT id, account, total FROM orders WHERE id = %s", (int(req.parts[1]),))
        row = cur.fetchone()
    if row is None:
        raise Refused(404, "no such order")
    return [row[0], row[1], float(row[2])]


def checkout(req):
    log, items = logger("shop.checkout"), content(req.session)
    if not items:
        log.warning("checkout of cart %s refused: cart is empty", req.session)
        raise Refused(400, "cart is empty")
    user = (redis("GET", "session:" + req.session) or b"guest").decode()
    for attempt in (1, 2, 3):
        try:
            number, total, low = place(user, items)
            break
        except psycopg2.errors.DeadlockDetected:
            log.warning("checkout of cart %s hit a deadlock, attempt %d", req.session, attempt)
        except psycopg2.errors.LockNotAvailable as error:
            log.error("checkout of cart %s gave up after attempt %d: %s", req.session, attempt, str(error).splitlines()[0])
            raise Refused(503, "please try again") from None
    else:
        log.error("checkout of cart %s gave up after 3 deadlocks", req.session)
        raise Refused(503, "please try again")
    redis("DEL", "cart:" + req.session)
    log.info("order %d placed by %s: %d lines, %.2f EUR", number, user, len(items), total)
    for pid, left in low:
        logger("shop.stock").warning("stock of product %d is low: %d left", pid, left)
    audit("order", f"{number} {user}")
    if random.random() < 0.06:
        logger("shop.payment").warning("payment of order %d declined by provider: %s", number, random.choice(["card expired", "insufficient funds"]))
        raise Refused(402, "payment declined")
    if random.random() < 0.5:
        logger("shop.mail").info("confirmation of order %d queued for %s@mail.example", number, user)
    return {"order": number}


def place(user, items):
    total, low = 0.0, []
    with pool.connection() as cur:
        cur.execute("SET LOCAL lock_timeout = '6s'")
        for pid, count in sorted(items.items()):
            cur.execute("UPDATE products SET stock = greatest(stock - %s, 0) WHERE id = %s RETURNING price, stock", (count, pid))
            price, left = cur.fetchone()
            total += float(price) * count
            if left < 5:
                low.append((pid, left))
        cur.execute("INSERT INTO orders (account, total, document) VALUES (%s, %s, %s) RETURNING id", (user, total, random.randbytes(900).hex()))
        return cur.fetchone()[0], total, low


def healthz(req):
    with pool.connection() as cur:
        cur.execute("SELECT 1")
    redis("PING")
    return {"ok": True}


ROUTES = {"": home, "products": catalogue, "search": search, "compare": compare, "login": login, "register": register,
          "cart": cart, "account": account, "orders": order, "checkout": checkout, "healthz": healthz}


class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        data = json.dumps(body, default=str).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def run(self):
        began = time.monotonic()
        path, _, query = self.path.partition("?")
        self.method, self.parts = self.command, path.strip("/").split("/")
        self.query = dict(p.split("=", 1) for p in query.split("&") if "=" in p)
        self.session = self.headers.get("X-Session", "0" * 16)
        current.trace = self.headers.get("X-Request-ID", "-")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        route = ROUTES.get(self.parts[0])
        if self.parts[0] == "products" and len(self.parts) > 1:
            route = reviews if self.parts[2:] == ["reviews"] else product
        try:
            if route is None:
                logger("shop.http").info("no route for '%s'", path)
                raise Refused(404, "not found")
            self.form = json.loads(self.body) if self.body[:1] == b"{" else {}
            status, body = 200, route(self)
        except Refused as refused:
            status, body = refused.status, {"error": str(refused)}
        except RedisError as error:
            logger("shop.redis").error("redis refused a command on '%s': %s", path, error)
            status, body = 503, {"error": "try again later"}
        except psycopg2.OperationalError as error:
            if error.pgcode is None:                       # no connection at all
                logger("shop.db").error("database unavailable for '%s': %s", path, str(error).strip())
                status, body = 503, {"error": "try again later"}
            else:
                logger("shop.http").exception("unhandled exception on %s '%s'", self.method, path)
                status, body = 500, {"error": "internal error"}
        except Exception:
            logger("shop.http").exception("unhandled exception on %s '%s'", self.method, path)
            status, body = 500, {"error": "internal error"}
        took = 1000 * (time.monotonic() - began)
        if took > SLOW_MS and status < 500:
            logger("shop.http").warning("slow request: '%s' took %.0f ms", path, took)
        try:
            self.answer(status, body)
        except (BrokenPipeError, ConnectionResetError):
            logger("shop.http").info("client of '%s' went away before the answer", path)
            self.close_connection = True
        current.trace = "-"

    do_GET = do_POST = do_DELETE = run

    def log_message(self, *_):                             # nginx writes the access log
        pass


class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 64

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def housekeeping():
    """What the shop does on its own; each task logs, and survives a failing server."""
    def rates():
        logger("shop.rates").info("exchange rates refreshed: %d currencies", random.randint(11, 14))

    def sweep():
        with pool.connection() as cur:
            cur.execute("DELETE FROM audit_log WHERE at < now() - interval '4 minutes'")
            logger("shop.sweeper").info("swept %d audit entries older than 4 minutes", cur.rowcount)

    def restock():
        with pool.connection() as cur:
            cur.execute("SET LOCAL lock_timeout = '6s'")
            cur.execute("SELECT id FROM products WHERE stock < 10 ORDER BY id FOR UPDATE")
            ids = [row[0] for row in cur.fetchall()]
            if ids:
                cur.execute("UPDATE products SET stock = stock + 25 WHERE id = ANY(%s)", (ids,))
                logger("shop.stock").info("restocked %d products", len(ids))

    def pools():
        logger("shop.db").info("connection pool: %d open, %d idle", pool.open, len(pool.idle))

    tasks = [[period * 0.4, period, task] for period, task in ((30, rates), (50, sweep), (40, restock), (20, pools))]
    began = time.monotonic()
    while True:
        for entry in tasks:
            if time.monotonic() - began >= entry[0]:
                entry[0] += entry[1]
                try:
                    entry[2]()
                except Exception as error:
                    logger("shop.jobs").error("job '%s' failed: %s", entry[2].__name__, str(error).splitlines()[0])
        time.sleep(0.5)


def main():
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(WithTrace("%(asctime)s.%(msecs)03d %(levelname)s %(name)s [%(trace)s] %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    random.seed(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
    log = logger("shop")
    log.info("shop 1.4.2 starting, python %s", sys.version.split()[0])
    with pool.connection() as cur:
        cur.execute("SELECT count(*) FROM products")
        log.info("database reached, %d products on sale", cur.fetchone()[0])
    log.info("redis answers %s", redis("PING").decode())
    threading.Thread(target=housekeeping, daemon=True).start()
    server = Server(("10.20.0.11", 8000), Request)
    log.info("listening on 10.20.0.11:8000")
    server.serve_forever()


if __name__ == "__main__":
    main()
