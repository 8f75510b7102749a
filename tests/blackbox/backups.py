"""Backups of master secrets, as the tests make and open them."""

import shutil
from pathlib import Path

from installation import Installation


class Backup:
    """A system whose first generation has a backup, its file and its shares."""

    def __init__(self, shares="2/3", installation=None, init=True, **settings):
        self.installation = installation or Installation(**settings)
        self.shares = shares
        self.folder = self.installation.directory / "officers"
        self.folder.mkdir()
        self.file = self.installation.directory / "generation-1.backup"
        self.made = self.init() if init else None

    def init(self, *arguments, check=0):
        done = self.installation.sso("init", "--shares", self.shares, "--shares-dir", self.folder,
                                     "--backup", self.file, *arguments, check=check)
        return done.json if check == 0 else done

    def share(self, number):
        return self.folder / f"share-{number}-of-{self.shares.split('/')[1]}.txt"

    def bring(self, *numbers, name="table"):
        """A folder with these shares only."""
        table = self.installation.directory / name
        shutil.rmtree(table, ignore_errors=True)
        table.mkdir()
        for number in numbers:
            shutil.copy(self.share(number), table)
        return table

    def restore(self, *numbers, file=None, check=None, options=()):
        return self.installation.sso("key", "restore", file or self.file, "--shares-dir",
                                     self.bring(*numbers), *options, check=check)

    def drill(self, *numbers, file=None, check=None):
        return self.installation.sso("key", "drill", file or self.file, "--shares-dir",
                                     self.bring(*numbers), check=check)

    def lose_token(self):
        """The token's folder deleted, a new token under the same name in its place."""
        token = self.installation.token
        shutil.rmtree(token.directory / "tokens")
        (token.directory / "tokens").mkdir()
        token.add(token.label)
        shutil.rmtree(self.installation.directory / "pin-guard", ignore_errors=True)


def words_of(share):
    lines = Path(share).read_text().splitlines()
    return " ".join(line for line in lines if not line.startswith("#")).split()
