"""What a worker does when it hears that there is work at a job: whatever comes next, until nothing is left for it."""

import logging
import traceback
from collections.abc import Callable

from jobs import files, leaving
from jobs.engine.errors import EngineError
from jobs.models import MAX_FAILURES, Job, Shard
from jobs.models.job import failed
from jobs.progress import Leaving, Progress, ShardProgress, Stopped, Watch, persist
from jobs.work.finish import finish
from jobs.work.loaded import Loaded, has_device
from jobs.work.map import draw
from jobs.work.plan import plan
from jobs.work.shard import read_shard
from jobs.work.warm import WARM

logger = logging.getLogger(__name__)
Invite = Callable[[int, int], object]  # job, further workers that would find work
FROM_THE_KEYBOARD = "Interrupted from the keyboard; start it again to go on where it stopped."


def work(job_id: int, worker: str, watch: Watch | None = None, invite: Invite | None = None) -> None:
    """Plan the job, read its shards and finish it, as far as others do not. What comes of it is on its rows."""
    WARM.clear()  # a job needs the memory
    Worker(job_id, worker, watch, invite).run()


class Worker:
    """One worker at one job. Model and SAE stay in memory from one piece of work to the next."""

    def __init__(self, job_id: int, name: str, watch: Watch | None, invite: Invite | None) -> None:
        self.job_id, self.name, self.watch, self.invite = job_id, name, watch, invite
        self.loaded: Loaded | None = None

    def run(self) -> None:
        while not leaving.asked() and self.step():
            pass
        if not Job.objects.live().filter(pk=self.job_id).exists():
            self._tidy()

    def step(self) -> bool:
        """Do one thing that the job needs. False: there is nothing for this worker."""
        if Job.objects.give_up(self.job_id):
            return False
        if Job.objects.claim(self.job_id, self.name):
            self._hold_job(self._begin)
        elif (shard := self._claim_shard()) is not None:
            self._read(shard)
        elif Job.objects.claim_finish(self.job_id, self.name):
            self._hold_job(self._finish)
        else:
            return False
        return True

    def _claim_shard(self) -> Shard | None:
        job = Job.objects.in_phase(Job.Phase.EXTRACTING).filter(pk=self.job_id).first()
        if job is None or not has_device(job.plan["device"], job.settings.get("device", "auto")):
            return None
        return Shard.objects.claim(self.job_id, self.name)

    def _begin(self, job: Job, progress: Progress) -> None:
        """A map is drawn in one piece, everything else is planned."""
        draw(job, progress) if job.kind == Job.Kind.MAP else self._plan(job, progress)

    def _plan(self, job: Job, progress: Progress) -> None:
        self.loaded = plan(job, progress)
        if self.invite:
            self.invite(job.pk, Shard.objects.claimable().filter(job=job).count() - 1)

    def _finish(self, job: Job, progress: Progress) -> None:
        self.loaded = finish(job, self.loaded, progress)

    def _hold_job(self, do: Callable[[Job, Progress], None]) -> None:
        """Do what needs the job's own lease."""
        progress, mine = Progress(self.job_id, self.name, self.watch), Job.objects
        try:
            with progress.beating():
                do(Job.objects.get(pk=self.job_id), progress)
        except (Stopped, Leaving):
            mine.release(self.job_id, self.name)
        except EngineError as error:
            sentence = str(error)
            persist(lambda: mine.fail(self.job_id, self.name, sentence))
        except Exception as error:
            logger.exception("job %s failed", self.job_id)
            self.loaded = None  # whatever it was, it may have left something broken behind
            why, trace = _unknown(error), traceback.format_exc()
            persist(lambda: mine.count_failure(self.job_id, self.name, why, trace))
        except KeyboardInterrupt:
            mine.fail(self.job_id, self.name, FROM_THE_KEYBOARD)
            raise
        except BaseException:
            mine.release(self.job_id, self.name)
            raise

    def _read(self, shard: Shard) -> None:
        progress, shards = ShardProgress(shard, self.name, self.watch), Shard.objects
        try:
            with progress.beating():
                self.loaded = read_shard(Job.objects.get(pk=self.job_id), shard, self.loaded, progress)
        except (Stopped, Leaving):
            shards.release(shard.pk, self.name)
        except EngineError as error:
            sentence = str(error)
            if shards.held(shard.pk, self.name).exists():
                persist(lambda: Job.objects.fail_extracting(self.job_id, sentence))
        except Exception as error:
            logger.exception("shard %s of job %s failed", shard.number, self.job_id)
            self.loaded = None
            trace, told = traceback.format_exc(), f"shard {shard.number} failed: {_unknown(error)}"
            persist(lambda: Job.objects.tell(self.job_id, told, self.name))
            if persist(lambda: shards.fail(shard.pk, self.name, trace)) == MAX_FAILURES:
                shard.refresh_from_db()
                persist(lambda: Job.objects.fail_extracting(self.job_id, failed(shard), trace))
        except KeyboardInterrupt:
            Job.objects.fail_extracting(self.job_id, FROM_THE_KEYBOARD)
            raise
        except BaseException:
            shards.release(shard.pk, self.name)
            raise

    def _tidy(self) -> None:
        """The job has ended. A done one's files go at once; one that may be sent again keeps those in the storage."""
        if Job.objects.filter(pk=self.job_id, state=Job.State.DONE).exists():
            files.delete_job(self.job_id)


def _unknown(error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return f"The worker met an error it does not know: {reason}"
