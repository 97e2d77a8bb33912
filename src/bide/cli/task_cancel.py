"""`bide task cancel`: ends an open task. The parts of a gateway do it here, beside one that runs or not."""

import click
import msgspec

from bide.app import open_gateway
from bide.cli.shared import TEXT, CommandError, one_sentence, plain, run, settings_of
from bide.cli.task import find_task
from bide.flow import cancel as cancelling
from bide.settings import Settings


@click.command()
@click.argument("task_id", metavar="ID", type=TEXT)
@one_sentence
def cancel(task_id: str) -> None:
    """Ends an open task: nothing is charged, and its callback is sent as for a failure.

    Whoever works on it, its result is not taken any more. What an upstream was asked for may still be made there.
    """
    run(_cancel(settings_of(), task_id))
    click.echo(f"Task {plain(task_id)} is cancelled.")


async def _cancel(settings: Settings, task_id: str) -> None:
    # No channel is asked, so none has to be set up right.
    async with open_gateway(msgspec.structs.replace(settings, channels=())) as gateway:
        await find_task(gateway.db, task_id)
        if not await cancelling.cancel(gateway, task_id):
            raise CommandError(f"task {task_id} has ended already")
