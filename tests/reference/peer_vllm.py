"""Peer measurement: GLM-4V-9B's published shapes in vLLM, made-up weights, the engine in this process. No HTTP and no JPEG are in
its figures, which are in ours.

    pip install vllm==0.26.0
    python tests/reference/peer_vllm.py plain best               # bf16: as it comes, and with the best settings found
    python tests/reference/peer_vllm.py plain best --fp8         # its 8-bit floats, made as the weights are loaded

Of each: the first token about a new picture, that of the next question about it, and the tokens a second of 1, 2, 4, 8 and 16 users
whose pictures are there, 128 tokens each. `best` has graphs for the tokens of a question and for sixteen users, room for sixteen
pictures in a step, pictures known by a name instead of by a hash of their pixels, and the vision tower's layers compiled. Medians,
one JSON object a line. Each way takes three minutes on an H100, most of it loading and compiling.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

MODEL = Path("/tmp/peer-vllm-model")
USERS = (1, 2, 4, 8, 16)
TOKENS = 128
QUESTION = 20
# The ids of the published vocabulary that a prompt is made of.
FIRST_SPECIAL = 151329
SPECIAL = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
           "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"]
ID = {name: FIRST_SPECIAL + i for i, name in enumerate(SPECIAL)}
RANDOM = random.Random(7)


def write_model():
    """A folder as vLLM wants it: the published configuration, and a tokenizer of the right size, since prompts are ids."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    MODEL.mkdir(exist_ok=True)
    config = json.loads((Path(__file__).parent.parent / "data/glm-4v-9b.config.json").read_text())
    config |= {"architectures": ["GLM4VForCausalLM"], "torch_dtype": "bfloat16"}
    config.pop("auto_map", None)
    (MODEL / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(FIRST_SPECIAL)} | ID, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    tokenizer.save(str(MODEL / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[0], "pad_token": SPECIAL[0], "model_max_length": 8192}
    (MODEL / "tokenizer_config.json").write_text(json.dumps(settings))
    (MODEL / "generation_config.json").write_text(json.dumps({"eos_token_id": config["eos_token_id"], "pad_token_id": FIRST_SPECIAL}))


def picture():
    """A smooth random picture of 1120 × 1120, never the same twice; and its name."""
    import numpy as np
    from PIL import Image

    small = np.frombuffer(RANDOM.randbytes(35 * 35 * 3), dtype=np.uint8).reshape(35, 35, 3)
    return Image.fromarray(small).resize((1120, 1120), Image.BICUBIC), f"picture-{RANDOM.getrandbits(64):x}"


class Engine:
    def __init__(self, way: str, fp8: bool):
        from vllm import LLM

        best = way == "best"
        sizes = [1, 2, 4, 8, 16] + ([24, 32, 48, 64] if best else [])
        self.named = best
        self.llm = LLM(
            model=str(MODEL), load_format="dummy", dtype="bfloat16", quantization="fp8" if fp8 else None, max_model_len=8192, max_num_seqs=16,
            max_num_batched_tokens=32768 if best else 8192, enable_prefix_caching=True, kv_cache_memory_bytes=8 << 30, seed=0,
            limit_mm_per_prompt={"image": 1}, disable_log_stats=True, compilation_config={"cudagraph_capture_sizes": sizes},
            kernel_config={"enable_flashinfer_autotune": False, "enable_cutedsl_warmup": False})
        self.number = 0
        if best:
            worker = self.llm.llm_engine.model_executor.driver_worker
            tower = getattr(worker, "worker", worker).get_model().transformer.vision
            for layer in tower.transformer.layers:
                layer.compile(dynamic=False)

    def prompt(self, shown):
        image, name = shown
        question = [RANDOM.randrange(1000, 100000) for _ in range(QUESTION)]
        begin = ["[gMASK]", "<sop>", "<|user|>", "<|begin_of_image|>", "<|endoftext|>", "<|end_of_image|>"]
        prompt = {"prompt_token_ids": [ID[it] for it in begin] + question + [ID["<|assistant|>"]], "multi_modal_data": {"image": image}}
        return prompt | ({"multi_modal_uuids": {"image": name}} if self.named else {})

    def answer(self, pictures, tokens):
        """A question about each picture, all at once: seconds until each of the tokens of each answer."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        settings = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, output_kind=RequestOutputKind.CUMULATIVE)
        engine, times = self.llm.llm_engine, {}
        prompts = [self.prompt(shown) for shown in pictures]
        began = time.perf_counter()
        for prompt in prompts:
            self.number += 1
            times[f"p{self.number}"] = []
            engine.add_request(f"p{self.number}", self.llm._preprocess_cmpl_one(prompt), settings)
        while engine.has_unfinished_requests():
            outputs = engine.step()
            now = time.perf_counter() - began
            for output in outputs:
                name = output.request_id if output.request_id in times else output.request_id.split("-")[0]
                times[name] += [now] * (len(output.outputs[0].token_ids) - len(times[name]))
        return list(times.values())


def median_ms(seconds):
    return round(1e3 * statistics.median(seconds), 2)


def measure(engine, rounds):
    first, following = [], []
    for number in range(rounds + 3):
        shown = picture()
        [new], [again] = engine.answer([shown], 1), engine.answer([shown], 1)
        if number >= 3:
            first.append(new[0])
            following.append(again[0])
    yield {"what": "first token, new picture", "ms": median_ms(first), "n": len(first)}
    yield {"what": "first token, next question", "ms": median_ms(following), "n": len(following)}
    for users in USERS:
        pictures = [picture() for _ in range(users)]
        for shown in pictures:
            engine.answer([shown], 1)
        took, gaps = [], []
        for number in range(rounds // 2 + 1):
            answers = engine.answer(pictures, TOKENS)
            if number:
                took.append(max(times[-1] for times in answers))
                # From where all have begun.
                since = max(times[0] for times in answers)
                for times in answers:
                    later = [at for at in times if at >= since]
                    gaps += [b - a for a, b in zip(later, later[1:])]
        yield {"what": f"{users} users", "tokens_per_s": round(users * TOKENS / statistics.median(took), 1), "further_token_ms": median_ms(gaps), "n": len(took)}


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("ways", nargs="+", choices=["plain", "best"])
    args.add_argument("--fp8", action="store_true")
    args.add_argument("--rounds", type=int, default=20)
    args = args.parse_args()
    for name, value in {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_USE_FLASHINFER_SAMPLER": "0",
                        "VLLM_USE_DEEP_GEMM": "0", "VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}.items():
        os.environ.setdefault(name, value)
    if len(args.ways) > 1:
        # Each in a process of its own, so that the card is empty before it.
        more = ["--fp8"] if args.fp8 else []
        for way in args.ways:
            subprocess.run([sys.executable, __file__, way, "--rounds", str(args.rounds), *more], check=True)
        return
    [way] = args.ways
    write_model()
    import torch
    import vllm

    about = {"way": way, "vllm": vllm.__version__, "torch": torch.__version__, "card": torch.cuda.get_device_name(0), "weights": "fp8" if args.fp8 else "bf16"}
    engine = Engine(way, args.fp8)
    for row in measure(engine, args.rounds):
        print(json.dumps(about | row), flush=True)
    sys.stdout.flush()
    # The engine's threads need no goodbye.
    os._exit(0)


if __name__ == "__main__":
    main()
