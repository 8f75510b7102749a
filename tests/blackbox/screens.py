"""A terminal at which officers sit: runs a command on a pseudo-terminal and answers its prompts."""

import os
import pty
import re
import select
import signal
import time

from installation import PATIENCE_SECONDS


class Screen:
    def __init__(self, command):
        self.text, self.seen = "", 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir("/")
            # As at a terminal, however this was started: a shell's background job ignores it.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execv(command[0], command)

    def wait_for(self, *patterns):
        """Reads until one of the patterns stands in what is new; returns its match."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            for pattern in patterns:
                found = re.compile(pattern, re.S).search(self.text, self.seen)
                if found:
                    self.seen = found.end()
                    return found
            if not self.read(0.1):
                break
        raise AssertionError(f"none of {patterns} in {self.text[self.seen:]!r}")

    def read(self, seconds):
        """False at the end."""
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # how Linux tells the end of a pseudo-terminal
            return False
        self.text += data.decode().replace("\r\n", "\n")
        return bool(data)

    def type(self, text):
        os.write(self.fd, text.encode())

    def line(self, text=""):
        self.type(text + "\n")

    def interrupt(self):
        self.type("\x03")

    def end(self):
        """The exit code; what was printed is in self.text."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self.read(0.5):
            assert time.monotonic() < end, f"it does not end: {self.text[-500:]!r}"
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def read_words(text):
    """The numbered words of a share's screen, in their order."""
    found = {int(number): word for number, word in re.findall(r"(\d+) ([a-z]{4,8})\b", text)}
    return [found[number] for number in range(1, len(found) + 1)]


def take_share(screen, letters=None, wrong_first=False, look=None):
    """Sits down as the next officer: copies the words, types back those that are asked for.
    `look(words)` is called while they are on the screen."""
    screen.wait_for("please sit down.*Press Enter: ")
    screen.line()
    while True:
        words = read_words(screen.wait_for(r"down each column\..*?Write below")[0])
        screen.wait_for("compared once: ")
        if look is not None:
            look(words)
        screen.line()
        while True:
            asked = screen.wait_for(r"Word (\d+): ", "please sit down", "Press Enter to write",
                                    "That is another word.*press Enter: ")
            if asked[0].startswith("That"):
                screen.line()
                wrong_first = False
                break
            if not asked[0].startswith("Word"):
                screen.seen = asked.start()
                return words
            word = words[int(asked[1]) - 1]
            if wrong_first:
                word = "acid" if word != "acid" else "acne"
            screen.line(word[:letters])


def give_share(screen, words, per_line=11):
    """Sits down with a share and types it."""
    screen.wait_for("sit down with your share.*Press Enter: ")
    screen.line()
    for at in range(0, len(words), per_line):
        screen.wait_for(r"Word \d+: ")
        screen.line(" ".join(words[at:at + per_line]))
