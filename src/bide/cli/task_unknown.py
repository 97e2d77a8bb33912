"""`bide task reconcile`, `resubmit` and `give-up`: what an operator may do about a submission whose answer was lost.
The parts of a gateway do it here, beside one that runs or not."""

import click
import msgspec

from bide.app import open_gateway
from bide.cli.shared import TEXT, one_sentence, plain, run, settings_of
from bide.flow import unknown
from bide.settings import Settings

task_id_argument = click.argument("task_id", metavar="ID", type=TEXT)


@click.command()
@task_id_argument
@one_sentence
def reconcile(task_id: str) -> None:
    """Asks the upstream what became of a lost submission, and prints what it says.

    That is kept with the attempt. A task that has ended stays as it ended; an open one is looked at by a worker at
    once, which goes on with what it finds.
    """
    click.echo(plain(run(_reconcile(settings_of(), task_id))))


@click.command()
@task_id_argument
@one_sentence
def resubmit(task_id: str) -> None:
    """Sends an open task whose submission was lost once more, to the same channel.

    If the upstream took it before, it is made, and paid for, twice.
    """
    run(_resubmit(settings_of(), task_id))
    click.echo(f"Task {plain(task_id)} is sent again.")


@click.command("give-up")
@task_id_argument
@one_sentence
def give_up(task_id: str) -> None:
    """Ends a task whose submission was lost: nothing is charged.

    Of a task that has ended it only notes that nobody needs to look at it any more.
    """
    run(_give_up(settings_of(), task_id))
    click.echo(f"Task {plain(task_id)} is given up.")


async def _reconcile(settings: Settings, task_id: str) -> str:
    async with open_gateway(settings) as gateway:
        return await unknown.look(gateway, task_id)


# No channel is asked by these, so none has to be set up right.


async def _resubmit(settings: Settings, task_id: str) -> None:
    async with open_gateway(msgspec.structs.replace(settings, channels=())) as gateway:
        await unknown.resend(gateway, task_id)


async def _give_up(settings: Settings, task_id: str) -> None:
    async with open_gateway(msgspec.structs.replace(settings, channels=())) as gateway:
        await unknown.give_up(gateway, task_id)
