"""Mail::DKIM, a verifier that shares no code with ours or with dkimpy; it looks keys up at a DNS server of ours."""

import asyncio
import subprocess
from collections.abc import Iterable

PERL = """
use Mail::DKIM::Verifier; use Mail::DKIM::DNS; use Net::DNS::Resolver;
my $r = Net::DNS::Resolver->new(nameservers => [$ARGV[0]], port => $ARGV[1], recurse => 1, usevc => 1);
Mail::DKIM::DNS::resolver($r);
local $/; my @letters = split /\\x00/, <STDIN>;
for my $letter (@letters) {
  my $v = Mail::DKIM::Verifier->new();
  $v->PRINT($letter); $v->CLOSE;
  print $v->result_detail, "\\n";
}
"""


async def verdicts(resolver: tuple[str, int], letters: Iterable[bytes]) -> list[str]:
    """Return ``pass`` or ``fail (why)`` for each letter."""
    host, port = resolver
    perl = await asyncio.create_subprocess_exec(
        "perl", "-e", PERL, host, str(port), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await perl.communicate(b"\0".join(letters))
    assert perl.returncode == 0, err.decode()
    return out.decode().split("\n")[:-1]
