"""How many requests a second does the proxy carry, and how late are the slowest? distkit beside HAProxy and nginx.

    python benchmarks/proxy.py [--seconds 3] [--rounds 3] [--clients 16,64] [--json]

Two servers (nginx, one worker, 11 bytes a response) behind each proxy, keep-alive on both sides, one thread or worker a
proxy, `wrk` with one thread as the load. The proxies take turns on the same servers, `--rounds` times over; a figure is
the median. `direct` is the load on a server without a proxy: the limit of the rest. All share this machine's cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SYSTEMS = ("direct", "distkit", "haproxy", "nginx")
TICKS = os.sysconf("SC_CLK_TCK")


class Missing(Exception):
    """A program is not installed."""


def main() -> int:
    """Measure and print."""
    options = _parse()
    figures: dict[tuple[int, str], list[dict[str, float]]] = defaultdict(list)
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            servers = _free_ports(2)
            stack.enter_context(_nginx(Path(folder) / "servers", _server_config(servers)))
            running = {system: stack.enter_context(_start(system, Path(folder), servers)) for system in SYSTEMS}
            for clients in options.clients:
                for _ in range(options.rounds):
                    for system, (port, process) in running.items():
                        figures[clients, system].append(_load(port, process, clients, options.seconds))
    except Missing as problem:
        print(problem, file=sys.stderr)
        return 1
    _print(figures, options.json)
    return 0


def _print(figures: dict[tuple[int, str], list[dict[str, float]]], as_json: bool) -> None:
    versions = {
        "python": platform.python_version(),
        "haproxy": _version("haproxy", "-v"),
        "nginx": _version("nginx", "-v"),
    }
    if not as_json:
        print(f"{'clients':>8} {'':10}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'CPU us':>10}{'of HAProxy':>12}")
    for (clients, system), rounds in figures.items():
        middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        ratio = middle["rate"] / statistics.median(each["rate"] for each in figures[clients, "haproxy"])
        if as_json:
            for name, unit in (("rate", "1/s"), ("p50", "ms"), ("p99", "ms"), ("cpu", "us"), ("failed", "1")):
                params = {"system": system, "clients": clients, "rounds": len(rounds)} | versions
                print(
                    json.dumps(
                        {"name": f"proxy_{name}", "value": round(middle[name], 3), "unit": unit, "params": params}
                    )
                )
        else:
            failed = f"  {middle['failed']:.0f} failed" if middle["failed"] else ""
            print(
                f"{clients:>8} {system:10}{middle['rate']:>12,.0f}{middle['p50']:>10.2f}{middle['p99']:>10.2f}"
                f"{middle['cpu']:>10.1f}{'x':>8} {ratio:.2f}{failed}"
            )
    if not as_json:
        print(", ".join(f"{name} {version}" for name, version in versions.items()))


def _load(port: int, process: subprocess.Popen[bytes] | None, clients: int, seconds: float) -> dict[str, float]:
    command = [_program("wrk"), "-t1", f"-c{clients}", f"-d{seconds:g}", "--latency", f"http://127.0.0.1:{port}/"]
    before = _cpu(process)
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    spent = _cpu(process) - before
    done = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return {
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]),  # type: ignore[index]
        "p50": _milliseconds(output, "50%"),
        "p99": _milliseconds(output, "99%"),
        "cpu": spent * 1e6 / max(1, done),
        "failed": float(refused[1]) if refused else 0.0,
    }


def _milliseconds(output: str, quantile: str) -> float:
    number, unit = re.search(rf"{quantile}\s+([\d.]+)(us|ms|s)", output).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def _cpu(process: subprocess.Popen[bytes] | None) -> float:
    """Seconds of CPU of a process and the workers it has started."""
    if process is None:
        return 0.0
    total = 0.0
    for task in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = task.read_text().rpartition(") ")[2].split()
            if process.pid in (int(task.parent.name), int(fields[1])):
                total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


# -- what is measured --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _start(system: str, folder: Path, servers: list[int]) -> Iterator[tuple[int, subprocess.Popen[bytes] | None]]:
    if system == "direct":
        yield servers[0], None
        return
    (port,) = _free_ports(1)
    if system == "nginx":
        with _nginx(folder / "proxy", _proxy_config(port, servers)) as process:
            yield port, process
        return
    if system == "haproxy":
        path = folder / "haproxy.cfg"
        lines = "\n".join(f"  server s{each} 127.0.0.1:{each}" for each in servers)
        path.write_text(HAPROXY.format(port=port, servers=lines))
        command = [_program("haproxy"), "-f", str(path)]
    else:
        path = folder / "proxy.toml"
        endpoints = ", ".join(f'{{ address = "127.0.0.1:{each}" }}' for each in servers)
        path.write_text(
            f'[listen.web]\naddress = "127.0.0.1:{port}"\ncluster = "app"\n'
            f'[cluster.app]\npolicy = "least_request"\nendpoints = [{endpoints}]\n'
        )
        command = [sys.executable, str(ROOT / "examples" / "proxy.py"), str(path)]
    with _running(command, port) as process:
        yield port, process


@contextlib.contextmanager
def _nginx(folder: Path, config: str) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir()
    path = folder / "nginx.conf"
    path.write_text(config.replace("FOLDER", str(folder)))
    port = int(re.search(r"listen 127.0.0.1:(\d+)", config)[1])  # type: ignore[index]
    with _running([_program("nginx"), "-c", str(path), "-e", str(folder / "error.log")], port) as process:
        yield process


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None:
                raise Missing(f"{' '.join(command)} ended with {process.returncode}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(30)


HAPROXY = """
global
  nbthread 1
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 30s
  http-reuse always
listen web
  bind 127.0.0.1:{port}
  balance leastconn
{servers}
"""
NGINX = """
daemon off; worker_processes 1; pid FOLDER/pid; error_log FOLDER/error.log;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxied; fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
  SERVERS
}
"""


def _server_config(ports: list[int]) -> str:
    listen = " ".join(f"listen 127.0.0.1:{port};" for port in ports)
    return NGINX.replace("SERVERS", f'server {{ {listen} location / {{ return 200 "hello world"; }} }}')


def _proxy_config(port: int, servers: list[int]) -> str:
    upstream = " ".join(f"server 127.0.0.1:{each};" for each in servers)
    location = 'proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";'
    return NGINX.replace(
        "SERVERS",
        f"upstream app {{ least_conn; {upstream} keepalive 128; keepalive_requests 100000000; }} "
        f"server {{ listen 127.0.0.1:{port}; location / {{ {location} }} }}",
    )


def _program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        raise Missing(f"{name} is missing. Install it; on Debian: sudo apt-get install wrk haproxy nginx-light")
    return path


def _version(name: str, option: str) -> str:
    output = subprocess.run([_program(name), option], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+\.\d+\.\d+)", output.stdout + output.stderr)
    return found[1] if found else "?"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in held]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load (default 3)")
    parser.add_argument("--rounds", type=int, choices=range(1, 21), default=3, help="(default 3)")
    parser.add_argument("--clients", type=_counts, default=[16, 64], help="connections of wrk (default 16,64)")
    parser.add_argument("--json", action="store_true", help='lines of {"name", "value", "unit", "params"}')
    return parser.parse_args()


def _counts(text: str) -> list[int]:
    counts = [int(word) for word in text.split(",")]
    if not all(1 <= count <= 1000 for count in counts):
        raise argparse.ArgumentTypeError("client counts are 1 to 1000")
    return counts


if __name__ == "__main__":
    sys.exit(main())
