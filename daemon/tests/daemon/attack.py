# Viewers that do all that they may, at once. Arguments: the socket, and how many; with 0, one that connects and closes.
import selectors, socket, sys

PATH, VIEWERS = sys.argv[1], int(sys.argv[2])


def line(method, params="{}"):
    return b'{"id":1,"method":"%s","params":%s}\n' % (method.encode(), params.encode())


# What is sent again and again, and whether the answers are read.
ROLES = [
    (line("Subscribe", '{"from":1}') * 60, True),
    (line("Subscribe", '{"from":1}') * 60, False),
    (line("Wait", '{"for":"mode","mode":"block_new_connection","progress_seconds":0.5}') * 40, False),
    (line("Wait", '{"for":"mode","mode":"block_new_session","timeout_seconds":0.001}') * 40, True),
    (line("GetStatus") * 80, True),
    (line("GetStatus") * 80, False),
    (line("ListConnections", '{"limit":1000}') * 40, False),
    (line("ListConnections", '{"limit":1000}') * 40, True),
    (line("Explain", '{"channel_id":"a"}') * 60, True),
    (b'{"id":1,"method":"x"}\n' * 150, True),
    (b'{"id":1,"method":"x","params":"' + b"x" * 60000, False),
]


def opened():
    viewer = socket.socket(socket.AF_UNIX)
    viewer.connect(PATH)
    viewer.setblocking(False)
    return viewer


def flood():
    print("connected", flush=True)
    while True:
        viewer = socket.socket(socket.AF_UNIX)
        viewer.setblocking(False)
        try:
            viewer.connect(PATH)
        except OSError:
            pass
        viewer.close()


def attack():
    selector = selectors.DefaultSelector()
    for number in range(VIEWERS):
        text, reads = ROLES[number % len(ROLES)]
        selector.register(opened(), selectors.EVENT_WRITE | (selectors.EVENT_READ if reads else 0), [text, b""])
    print("connected", flush=True)
    while True:
        for key, events in selector.select():
            try:
                if events & selectors.EVENT_READ and not key.fileobj.recv(1 << 18):
                    raise ConnectionResetError
                if events & selectors.EVENT_WRITE:
                    rest = key.data[1] or key.data[0]
                    key.data[1] = rest[key.fileobj.send(rest) :]
            except BlockingIOError:
                pass
            except OSError:
                # Turned away, or the daemon stops: it comes again.
                selector.unregister(key.fileobj)
                key.fileobj.close()
                try:
                    selector.register(opened(), key.events, [key.data[0], b""])
                except OSError:
                    sys.exit()


attack() if VIEWERS else flood()
