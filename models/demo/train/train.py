"""Trains the demo checkpoint: `python train.py` on one device, `torchrun --nproc-per-node gpu train.py` on several.

The schedule runs on the clock: `--seconds` of training in all, over as many calls as it takes; each call
ends after `--stop-after` seconds with its state saved, and the next one goes on from there.
"""
import argparse
import math
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist

import evaluate
import export
import loader
import pack
from model import Config, Glm4v, initialize
from muon import Optimizer
from rows import row_hidden, targets, weighted_loss

KIND_WEIGHTS = {"chat": 0.3, "no_picture": 0.3, "unknowable": 0.3, "read_none": 0.5, "position": 1.5, "count": 1.5, "photo": 0.7, "stranger": 0.7}
PHONE = 0.4  # with --strangers: the share of pictures, drawn ones as well, that look taken by a phone
HARD_WEIGHTS = {"position": 1.0, "describe": 1.5, "read_latin": 1.3}  # with --hard
# With --strangers, which are of many colours and scripts, these are what falls first: is there a text, and which.
STRANGERS_WEIGHTS = {"read_none": 1.2, "read_chinese": 2.0}


def scale_at(done: float, warm: float) -> float:
    """The rate at share `done` of the schedule, in parts of its peak."""
    return min(1.0, done / warm) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def save_state(folder: Path, optimizer: Optimizer, seconds: float, rank: int) -> None:
    if rank:
        return
    folder.mkdir(parents=True, exist_ok=True)
    state = {"tensors": optimizer.tensors(), "optimizer": optimizer.state(), "seconds": seconds}
    torch.save(state, folder / "state.tmp")
    (folder / "state.tmp").replace(folder / "state.pt")


def write_pieces(folder: Path, optimizer: Optimizer, seconds: float, limit: int = 15 << 20) -> None:
    """The f32 weights in pieces that travel: enough to go on from, with the optimizer's moments at zero."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = optimizer.master.cpu()
    for i, piece in enumerate(flat.split(limit // 4)):
        torch.save({"piece": piece.clone(), "layout": optimizer.layout, "seconds": seconds}, folder / f"weights{i}.pt")


def read_weights(folder: Path) -> tuple[dict, dict | None, float]:
    """Weights by name, the optimizer's state if it is there, and the seconds trained."""
    if (folder / "state.pt").exists():
        state = torch.load(folder / "state.pt", map_location="cpu")
        return state["tensors"], state["optimizer"], state["seconds"]
    pieces = [torch.load(f, map_location="cpu") for f in sorted(folder.glob("weights*.pt"))]
    flat = torch.cat([p["piece"] for p in pieces])
    tensors = {n: flat[at:at + k].view(shape) for n, at, k, shape in pieces[0]["layout"]}
    return tensors, None, pieces[0]["seconds"]


def load_weights(model: Glm4v, folder: Path) -> None:
    model.load_state_dict(read_weights(folder)[0])


def arguments():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--tokenizer", type=Path, default=Path("assets/tokenizer"))
    a.add_argument("--state", type=Path, default=Path("state"))
    a.add_argument("--pieces", type=Path, help="also write the f32 weights here at the end, in pieces below 16 MiB")
    a.add_argument("--seconds", type=float, default=1200, help="length of the whole schedule")
    a.add_argument("--stop-after", type=float, default=1e9, help="seconds after which this call saves and ends")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--batch", type=int, default=256, help="scenes a step and device")
    a.add_argument("--long-batch", type=int, default=48)
    a.add_argument("--long-every", type=int, default=6, help="every how many steps long conversations come")
    a.add_argument("--width", type=int, default=234, help="text tokens of a row")
    a.add_argument("--long-width", type=int, default=1898)
    a.add_argument("--pool", type=int, default=40000, help="scenes kept on a device")
    a.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) - 1), help="generator processes in all")
    a.add_argument("--hard", type=float, default=0.0, help="share of scenes of the sorts that are got wrong longest")
    a.add_argument("--strangers", type=float, default=0.0, help="share of photographs and other pictures that are no drawn scenes")
    a.add_argument("--lr", type=float, default=4e-3)
    a.add_argument("--adam-lr", type=float, default=2e-3)
    a.add_argument("--decay", type=float, default=0.05)
    a.add_argument("--norm-gain", type=float, default=0.5)
    a.add_argument("--warm", type=float, default=0.02, help="share of the schedule spent warming up")
    a.add_argument("--save-every", type=float, default=120, help="seconds between states saved under way")
    a.add_argument("--eval-every", type=float, default=60, help="seconds")
    a.add_argument("--eval-each", type=int, default=60, help="held-out questions of each kind and language")
    a.add_argument("--tiny", action="store_true", help="a toy shape, to try the code on a CPU")
    a.add_argument("--no-compile", action="store_true")
    a.add_argument("--from", dest="start", type=Path, help="a published folder to start a new schedule from, where there is no state yet")
    return a.parse_args()


def main() -> None:
    a = arguments()
    began = time.time()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    torch.set_num_threads(1 if torch.cuda.is_available() else 2)
    from scenes import Generator
    coder = pack.Coder(a.tokenizer)
    toy = dict(hidden_size=64, kv_channels=16, ffn_hidden_size=64, num_layers=2), dict(hidden_size=64, num_heads=2, intermediate_size=64, num_hidden_layers=1)
    config_dict = export.make_config(coder.ranks, *(toy if a.tiny else ()))
    config = Config.from_dict(config_dict)
    size = config.vision.image_size
    layout = loader.Layout(size, a.width, a.long_width)
    before, tensors, moments = 0.0, None, None
    if a.state.exists() and any(a.state.iterdir()):
        tensors, moments, before = read_weights(a.state)
    elif a.start:
        tensors = export.load_model(a.start).state_dict()
    kind_weights = KIND_WEIGHTS | (HARD_WEIGHTS if a.hard else {}) | (STRANGERS_WEIGHTS if a.strangers else {})
    workers = loader.Workers(max(1, a.workers // world), 4, layout, lambda seed: Generator(seed, "train", hard=a.hard, strangers=a.strangers, phone=PHONE if a.strangers else 0.0),
                             coder, lambda turn, index: kind_weights.get(turn.kind, 1.0),
                             seed=hash((a.seed, rank, int(before))))
    held_out = evaluate.held_out(coder, Generator, a.eval_each, 138, seed=5, kinds=evaluate.asked()) if rank == 0 and a.eval_every else None

    cuda = torch.cuda.is_available()
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world > 1:
        dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    say = print if rank == 0 else (lambda *_, **__: None)

    model = Glm4v(config)
    initialize(model, a.seed, a.norm_gain)
    model.to(device)
    optimizer = Optimizer(model, a.lr, a.adam_lr, a.decay)
    if tensors:
        optimizer.load_tensors(tensors)
        if moments:
            optimizer.load(moments)
        say(f"goes on at {before:.0f} s of training, moments {'kept' if moments else 'fresh'}")
    say(f"{sum(p.numel() for p in model.parameters()):,} parameters, {world} x {device}, {a.workers} workers, vocabulary {config.padded_vocab_size}")
    loss_of = weighted_loss
    if not a.no_compile:
        torch._dynamo.config.recompile_limit = 64
        for layer in [*model.transformer.vision.transformer.layers, *model.transformer.encoder.layers]:
            layer.compile(dynamic=False)
        loss_of = torch.compile(weighted_loss, dynamic=False)

    head = torch.tensor(coder.head, device=device)
    pool = loader.Pool(workers, a.pool, device)
    generator = torch.Generator(device).manual_seed(a.seed * 1000 + rank + optimizer.steps * 7919)
    while pool.filled < min(pool.size, 4 * a.batch):
        pool.refill()
        workers.check()
        time.sleep(0.02)
    say(f"ready after {time.time() - began:.0f} s")

    clock, seconds, scale = None, before, 0.0
    last_report = last_eval = last_save = time.time()
    last_steps, step_in_call, recent = optimizer.steps, 0, []
    while True:
        pool.refill()
        long = a.long_every and step_in_call % a.long_every == a.long_every - 1
        images, rows = pool.draw(a.long_batch if long else a.batch, long, generator)
        hidden = row_hidden(model, head, images, rows, long)
        loss = loss_of(hidden, model.transformer.output_layer.weight, *targets(rows))
        loss.backward()
        if world > 1:
            dist.all_reduce(optimizer.gradients, op=dist.ReduceOp.AVG if cuda else dist.ReduceOp.SUM)
        if step_in_call % 10 == 0:
            if clock is None and step_in_call >= 2 * a.long_every:
                clock = time.time()  # compilation is not training
            now = 0.0 if clock is None else time.time() - clock
            agreed = torch.tensor([now], dtype=torch.float64, device=device)
            if world > 1:
                dist.broadcast(agreed, 0)
            seconds = before + agreed.item()
            # Fresh moments need a short warm-up of their own.
            scale = max(scale_at(seconds / a.seconds, a.warm), 0.01) * min(1.0, (optimizer.steps + 1) / 100)
            workers.check()
        norm = optimizer.step(scale)
        step_in_call += 1
        if step_in_call % 10 == 1:
            recent.append((loss.detach(), norm, long))
        now = time.time()
        if step_in_call % 10 == 0 and now - last_report > 10:
            short = [x.item() for x, _, l in recent if not l] or [math.nan]
            say(f"{seconds:6.1f} s  step {optimizer.steps}  loss {sum(short) / len(short):.4f}  norm {norm.item():.2f}  "
                f"rate {scale:.3f}  {(optimizer.steps - last_steps) / (now - last_report):.1f} steps/s  "
                f"scenes {pool.received} (uses {step_in_call * a.batch / max(1, pool.received):.1f})", flush=True)
            last_report, last_steps, recent = now, optimizer.steps, []
        done = seconds >= a.seconds or seconds - before >= a.stop_after
        if held_out and (done or now - last_eval > a.eval_every):
            result = evaluate.teacher_forced(model, coder, held_out, device)
            say("  " + result.line(), flush=True)
            last_eval = time.time()
        if done:
            break
        if now - last_save > a.save_every:
            save_state(a.state, optimizer, seconds, rank)
            last_save = now
    save_state(a.state, optimizer, seconds, rank)
    if rank == 0 and a.pieces:
        write_pieces(a.pieces, optimizer, seconds)
    workers.stop()
    say(f"saved at {seconds:.0f} s; {time.time() - began:.0f} s in this call", flush=True)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
