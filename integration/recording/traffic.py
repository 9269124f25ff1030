"""// The customers: a steady, seeded stream of requests to the shop's nginx.
//
// Why it exists: the recording needs a healthy system under a small and varied load, at rates that stay.
// In:  a seed; the address of nginx, 10.20.0.10:80.
// Out: HTTP requests, about seven a second, from addresses 10.20.3.x; nothing is printed.
// Promises: the same seed makes the same visitors (their pace bends only to slow answers); every kind of
//      harmless trouble (404, wrong password, client that leaves, body too large …) comes every minute or two;
//      a failing shop never stops a visitor.
// Deliberately absent: retries, concurrency beyond one request a visitor, measuring.
"""
import base64, http.client, json, random, socket, sys, threading, time

NGINX = ("10.20.0.10", 80)
BROWSERS = ["Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            "ShopApp/3.2 (Android 14; mobile)"]
WORDS = ["lamp", "chair", "table", "sofa"]
# weight per action; about 7 requests a second in all, so weight 1 of 100 is one every 14 seconds
ACTIONS = {"home": 9, "catalogue": 17, "product": 22, "reviews": 6, "search": 8, "add": 16, "view": 5, "remove": 2.5, "login": 4,
           "checkout": 7, "account": 2, "order": 2, "static": 6, "no_static": .6, "no_product": .7, "no_route": .6,
           "wrong_password": .7, "register": 1, "taken": .5, "admin": .4, "admin_wrong": .4, "forbidden": .4, "compare": .5,
           "leave": .5, "review": .6, "too_large": .35, "nothing_found": .6, "empty_checkout": .5}


def visitor(number, seed, pace):
    dice = random.Random(seed * 1000 + number)
    source, agent = f"10.20.3.{10 + number}", BROWSERS[number % 2]
    session, user, kept = f"{dice.getrandbits(64):016x}", f"user_{number}", None
    keep_alive = number % 7 == 0

    def ask(method, path, form=None, body=None, headers=()):
        nonlocal kept
        conn = kept or http.client.HTTPConnection(*NGINX, timeout=60, source_address=(source, 0))
        kept = None
        head = {"User-Agent": agent, "X-Session": session, "Connection": "keep-alive" if keep_alive else "close", **dict(headers)}
        try:
            conn.request(method, path, body if form is None else json.dumps(form), head)
            answer = conn.getresponse()
            answer.read()
            if keep_alive and not answer.will_close and dice.random() < 0.9:
                kept = conn
                return
        except (OSError, http.client.HTTPException):
            pass
        conn.close()

    def raw(text, wait):
        sock = socket.create_connection(NGINX, timeout=60, source_address=(source, 0))
        sock.sendall(text.encode())
        time.sleep(wait)
        sock.close()

    lines = f"Host: shop\r\nUser-Agent: {agent}\r\nX-Session: {session}\r\n"
    auth = lambda pair: {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    pid = lambda: min(int(dice.expovariate(1 / 60)) + 1, 400)
    do = {
        "home": lambda: ask("GET", "/"),
        "catalogue": lambda: ask("GET", f"/products?page={dice.randint(1, 12)}"),
        "product": lambda: ask("GET", f"/products/{pid()}"),
        "reviews": lambda: ask("GET", f"/products/{pid()}/reviews"),
        "search": lambda: ask("GET", f"/search?q={dice.choice(WORDS)}"),
        "nothing_found": lambda: ask("GET", "/search?q=unicorn"),
        "add": lambda: ask("POST", "/cart/items", {"product": pid(), "count": dice.randint(1, 3)}),
        "view": lambda: ask("GET", "/cart"),
        "remove": lambda: ask("DELETE", f"/cart/items/{pid()}"),
        "login": lambda: ask("POST", "/login", {"user": user, "password": "demo"}),
        "wrong_password": lambda: ask("POST", "/login", {"user": user, "password": "domo"}),
        "checkout": lambda: ask("POST", "/checkout", {}),
        "empty_checkout": lambda: ask("POST", "/checkout", {}, headers={"X-Session": f"{dice.getrandbits(64):016x}"}),
        "account": lambda: ask("GET", "/account"),
        "order": lambda: ask("GET", f"/orders/{dice.randint(1, 60)}"),
        "static": lambda: ask("GET", dice.choice(["/static/shop.css", "/static/shop.js", "/static/logo.svg"])),
        "no_static": lambda: ask("GET", "/static/banner-old.png"),
        "no_product": lambda: ask("GET", f"/products/{dice.randint(5000, 9000)}"),
        "no_route": lambda: ask("GET", dice.choice(["/wp-login.php", "/favicon.ico"])),
        "register": lambda: ask("POST", "/register", {"user": f"user_{dice.randint(10**5, 10**9)}", "password": "demo"}),
        "taken": lambda: ask("POST", "/register", {"user": f"user_{dice.randint(1, 12)}", "password": "demo"}),
        "admin": lambda: ask("GET", "/admin/", headers=auth("admin:demo")),
        "admin_wrong": lambda: ask("GET", "/admin/", headers=auth(dice.choice(["admin:wrong", "root:wrong"]))),
        "forbidden": lambda: ask("GET", "/internal/metrics"),
        "compare": lambda: ask("GET", "/compare?category=lamps"),
        "leave": lambda: raw(f"GET /compare?category=lamps HTTP/1.1\r\n{lines}\r\n", 0.12),
        "review": lambda: ask("POST", f"/products/{pid()}/reviews", body="good " * dice.randint(5000, 9000)),
        "too_large": lambda: raw(f"POST /products/7/reviews HTTP/1.1\r\n{lines}Content-Length: {dice.randint(3, 9)}000000\r\n\r\n", 0.5),
    }
    names, weights = list(ACTIONS), list(ACTIONS.values())
    time.sleep(number * 0.13)
    while True:
        began = time.monotonic()
        try:
            do[dice.choices(names, weights)[0]]()
        except OSError:
            pass
        if dice.random() < 0.01:
            session = f"{dice.getrandbits(64):016x}"
        time.sleep(max(0.05, dice.uniform(0.6, 1.4) * pace - (time.monotonic() - began)))


def machine(agent, source, path, period, burst=1):
    """A probe or a crawler: the same request at a fixed period."""
    while True:
        for _ in range(burst):
            try:
                conn = http.client.HTTPConnection(*NGINX, timeout=60, source_address=(source, 0))
                conn.request("GET", path, headers={"User-Agent": agent, "Connection": "close"})
                conn.getresponse().read()
                conn.close()
            except (OSError, http.client.HTTPException):
                pass
        time.sleep(period)


def main():
    seed = int(sys.argv[1])
    for number in range(14):
        threading.Thread(target=visitor, args=(number, seed, 2.1), daemon=True).start()
    for args in (("kube-probe/1.30", "10.20.0.2", "/healthz", 5),
                 ("Googlebot/2.1 (+http://www.google.com/bot.html)", "10.20.9.66", "/robots.txt", 45),
                 ("Googlebot/2.1 (+http://www.google.com/bot.html)", "10.20.9.66", "/products?page=2", 50, 9)):
        threading.Thread(target=machine, args=args, daemon=True).start()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
