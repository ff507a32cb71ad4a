"""The watcher: looks at the registry's aliases, for as long as the service runs.

It decides when the registry is asked, in a thread of its own. Nothing ends it:
whatever a look meets is told and counted, and the next one comes a little later.
"""

import asyncio

from loopbook.serving import log_lines
from loopbook.serving.metrics import Metrics
from loopbook.serving.outside import Outside, TooLate, late_refusal
from loopbook.serving.versions import Versions

BY_HAND_S = 10.0  # how long somebody who asks for a look waits for it
LONGEST_S = 30.0  # between two looks while they fail


class Watcher:
    """What follows the aliases; one object a process."""

    def __init__(self, versions: Versions, metrics: Metrics, *, every_s: float):
        self.versions, self.metrics, self.every_s = versions, metrics, every_s
        self.failed = 0  # looks, one after the other
        self._outside = Outside("registry", limit_s=BY_HAND_S)

    async def begin(self) -> None:
        """Look for the first time. A registry that hangs does not keep the service from starting."""
        try:
            await self._outside.ask(self.versions.refresh)
        except Exception as error:
            self._fail(error)

    async def by_hand(self) -> bool:
        """Look now; True if another version answers.

        Raises
        ------
        Refusal
            503, if the registry does not answer in time. The look goes on.
        """
        try:
            return await self._outside.ask(self.versions.refresh, True)
        except TooLate as late:
            raise late_refusal(late, "registry_late") from None

    async def watch(self) -> None:
        """Look again and again; the longer apart, the more looks have failed."""
        while True:
            await asyncio.sleep(self.pause_s)
            try:
                await self._outside.run(self.versions.refresh)
                # a version that is refused is no reason to look at its alias less often
                is_deaf = any(fault.version is None for fault in self.versions.faults.values())
                self.failed = self.failed + 1 if is_deaf else 0
            except Exception as error:
                self._fail(error)

    @property
    def pause_s(self) -> float:
        """Until the next look."""
        return min(self.every_s * 2 ** min(self.failed, 10), max(LONGEST_S, self.every_s))

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        self.metrics.reload_failed("unexpected")
        about = {"reason": str(error)} if isinstance(error, TooLate) else {}
        log_lines.write(
            "error",
            error=type(error).__name__,
            where=log_lines.where(error),
            during="look",
            **about,
        )
