"""Many users, one connection to the parties: the classifier inside an asyncio program.

    python examples/async_service.py

Three users ask at once, one gives up, and a stream is read while the program does something else. All parties run
inside this process here; with a deployment only the constructor changes:

    AsyncClassifier(cluster="cluster.toml", certificates="deployment/client-alice")
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np

from sottovoce import AsyncClassifier, InputError
from sottovoce.models.speech.demo_clip import demo_clip_path

CLIPS = 64


async def user(name: str, classifier: AsyncClassifier, features: np.ndarray) -> None:
    """Ask for the labels of (clips, 40) features. Requests run one after the other, in the order of the calls."""
    labels = await classifier.predict(features)
    print(f"  {name}: {len(labels)} labels")


async def impatient(classifier: AsyncClassifier, features: np.ndarray) -> None:
    """Give up. The task goes on at once; the connections stay usable for the others."""
    try:
        async with asyncio.timeout(0):
            await classifier.predict(features)
    except TimeoutError:
        print("  the impatient user has left")


async def heartbeat(stop: asyncio.Event) -> int:
    """The event loop goes on meanwhile."""
    beats = 0
    while not stop.is_set():
        beats += 1
        await asyncio.sleep(0.001)
    return beats


async def main() -> None:
    """Run all of it."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 12, (CLIPS, 40))
    stop = asyncio.Event()
    beating = asyncio.create_task(heartbeat(stop))
    async with AsyncClassifier("paper", batch_size=32) as classifier:
        print("Three users and one who leaves")
        await asyncio.gather(
            user("Ada", classifier, features),
            impatient(classifier, features),
            user("Ben", classifier, features[:10]),
            user("Cleo", classifier, features[:1]),
        )
        print("A stream of recordings")
        clip = demo_clip_path()
        async for answer in classifier.classify_stream([clip, clip.with_name("missing.wav"), clip]):
            print("  bad recording" if isinstance(answer, InputError) else f"  {answer[0]['label']}")
    stop.set()
    print(f"meanwhile the event loop made {await beating:,} other steps")


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
