#!/usr/bin/python3
"""What GET shows of what stands beside the tensors: metadata and taps, and what is null where a part has none."""
import json
import os
import shutil
import tempfile
import unittest
import urllib.error
import urllib.request

import numpy as np

from support import GOLDEN, daemon, main, save_safetensors

ASKED = ["model", "in", "out", "layer", "prepend_bos", "context_size"]
F32 = "F32"


def tensor(*shape):
    return F32, (np.arange(np.prod(shape)).reshape(shape) % 5 - 2).astype("<f4")


class Shown(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def put(self, path, config=None, **tensors):
        """A safetensors file of these tensors and a config beside it: (file name, value or text)."""
        full = os.path.join(self.dir.name, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if tensors:
            save_safetensors(full, **tensors)
        if config:
            with open(os.path.join(os.path.dirname(full), config[0]), "w") as file:
                file.write(config[1] if isinstance(config[1], str) else json.dumps(config[1]))
        return full

    def shown(self, source):
        with daemon("d=" + source) as url:
            with urllib.request.urlopen(url + "/v1/dictionaries/d") as answer:
                return json.load(answer)

    def lens(self, folder, config):
        return os.path.dirname(self.put(folder + "/sae_weights.safetensors", ("cfg.json", config),
                                        W_enc=tensor(3, 4), W_dec=tensor(4, 3), b_enc=tensor(4), b_dec=tensor(3)))

    def expect(self, source, metadata, **taps):
        d = self.shown(source)
        self.assertEqual(d["metadata"], metadata)
        self.assertEqual(d["taps"], {**dict.fromkeys(ASKED), **taps})
        return d

    def test_sae_lens(self):
        config = {"sae_lens_version": "6.1.0", "architecture": "standard", "x": [1, 2.5, None, "\u00e9\"\n"],
                  "metadata": {"model_name": "gemma-2-2b", "hook_name": "blocks.3.hook_resid_post",
                               "hook_name_out": "blocks.4.hook_mlp_out", "hook_head_index": 2,
                               "prepend_bos": True, "context_size": 1024}}
        self.expect(self.lens("v6", config), config, **{
            "model": "gemma-2-2b", "in": "blocks.3.hook_resid_post", "out": "blocks.4.hook_mlp_out",
            "prepend_bos": True, "context_size": 1024, "hook_head_index": 2})
        config = {"model_name": "gpt2", "hook_point": "blocks.0.hook_z", "prepend_bos": False, "context_size": [1],
                  "hook_point_head_index": 2}
        self.expect(self.lens("v5", config), config, **{
            "model": "gpt2", "in": "blocks.0.hook_z", "prepend_bos": False, "hook_head_index": 2})

    def test_a_config_that_is_too_large(self):
        d = self.shown(self.lens("large", {"sae_lens_version": "6.1.0", "x": ["0123456789"] * 6000}))
        self.assertIsNone(d["metadata"])
        self.assertIn("metadata is above 64 KB as JSON, and not shown", d["reading"]["notes"])
        d = self.shown(self.lens("small", {"sae_lens_version": "6.1.0", "x": ["0123456789"] * 4900}))
        self.assertEqual(len(d["metadata"]["x"]), 4900)

    def test_dictionary_learning(self):
        config = {"trainer": {"dict_class": "AutoEncoder", "lm_name": "pythia", "layer": 3,
                              "submodule_name": "resid_post"}, "buffer": {"io": "out"}}
        folder = os.path.dirname(self.put("dl/ae.pt", ("config.json", config)))
        shutil.copy(os.path.join(GOLDEN, "autoencoder_7x5_f64.pt"), folder + "/ae.pt")
        self.expect(folder, config, **{"model": "pythia", "in": "resid_post", "layer": 3, "io": "out"})

    def test_circuit_tracer(self):
        path = self.put("ct/layer_12.safetensors",
                        ("config.yaml", "model_name: 'Qwen'\nfeature_input_hook: mlp.in\n"
                                        "feature_output_hook: mlp.out\nlist:\n  - 1\n"),
                        W_enc=tensor(4, 3), W_dec=tensor(4, 3), b_enc=tensor(4), b_dec=tensor(3))
        d = self.shown(path)
        self.assertEqual(d["taps"], {**dict.fromkeys(ASKED), "model": "Qwen", "in": "mlp.in", "out": "mlp.out",
                                     "layer": 12})
        self.assertEqual(d["metadata"]["model_name"], "Qwen")

    def test_gemma_scope_2(self):
        config = {"model_name": "gemma-3", "hf_hook_point_in": "a", "hf_hook_point_out": "b"}
        path = self.put("g2/params.safetensors", ("config.json", config), w_enc=tensor(3, 4), w_dec=tensor(4, 3),
                        b_enc=tensor(4), b_dec=tensor(3), threshold=tensor(4))
        self.expect(path, config, **{"model": "gemma-3", "in": "a", "out": "b"})

    def test_names_of_folders_and_files(self):
        path = self.put("layers.10.mlp/sae.safetensors", ("cfg.json", {"k": 2, "transcode": False}),
                        **{"encoder.weight": tensor(4, 3), "encoder.bias": tensor(4), "W_dec": tensor(4, 3),
                           "b_dec": tensor(3)})
        self.expect(os.path.dirname(path) + "/", {"k": 2, "transcode": False}, **{"in": "layers.10.mlp"})
        path = self.put("layer7.sae.pt", W_enc=tensor(4, 3), W_dec=tensor(3, 4), b_enc=tensor(4), b_dec=tensor(3))
        self.expect(path + ":k=3", None, **{"in": "output of block 7"})

    def test_options_follow_the_reading(self):
        data, formats = GOLDEN + "/", os.path.join(os.path.dirname(GOLDEN), "formats") + "/"
        common = ["sparse", "top_k", "features", "output_features"]
        for source, more, asked in (
                (formats + "sae_lens/gated", ["return_gate"], "gate"),
                (data + "gated_7x5_bf16.pt", ["return_gate"], "gate"),
                (data + "jump_7x5_f32.pt", ["output_pre_jump"], "pre_jump"),
                (data + "jump_7x5_f32.pt:activation=relu", [], None),
                (data + "gated_7x5_bf16.pt:activation=linear", [], None),
                (data + "gated_7x5_bf16.pt:input=rms", ["return_gate", "input_state"], "gate"),
                (data + "autoencoder_7x5_f64.pt", ["ghost_mask"], None),
                (data + "autoencoder_7x5_f64.pt:k=2", [], None)):
            with daemon("d=" + source) as url:
                with urllib.request.urlopen(url + "/v1/dictionaries/d") as answer:
                    d = json.load(answer)
                self.assertEqual(sorted(d["options"]), sorted(common + more), source)
                for option, tensor in ("return_gate", "gate"), ("output_pre_jump", "pre_jump"):
                    body = json.dumps({"x": [0.5] * d["activation_dim"], option: True}).encode()
                    request = urllib.request.Request(url + "/v1/dictionaries/d/encode", body,
                                                     {"Content-Type": "application/json"})
                    try:
                        with urllib.request.urlopen(request) as answer:
                            self.assertIn(tensor, json.load(answer), source)
                            self.assertEqual(tensor, asked, source)
                    except urllib.error.HTTPError as e:
                        self.assertEqual(json.load(e)["code"], "bad_option")
                        self.assertNotEqual(tensor, asked, source)

    def test_the_file_itself(self):
        d = self.shown(os.path.join(os.path.dirname(GOLDEN), "cases", "ckpt_tutorial.pt"))
        self.assertIn("epoch", d["metadata"])
        path = self.put("plain.safetensors", None, W=tensor(4, 3))
        d = self.expect("linear:" + path, None)
        self.assertIsNone(d["decoder_norm"])
        self.assertIsNone(d["output_dim"])

    def test_a_list_has_so_much_metadata(self):
        """Of a list the first 16 MB; each dictionary has its own all the same."""
        config = {"architecture": "standard", "x": "y" * 60000}
        path = self.lens("all/000", config)
        for i in range(1, 300):
            shutil.copytree(path, os.path.join(self.dir.name, "all/%03d" % i))
        with daemon("--dictionaries", os.path.join(self.dir.name, "all")) as url:
            with urllib.request.urlopen(url + "/v1/dictionaries") as answer:
                body = answer.read()
            listed = [d["metadata"] == config for d in json.loads(body)["dictionaries"]]
            size = len(json.dumps(config, separators=(",", ":")))
            self.assertEqual(listed, [True] * ((16 << 20) // size) + [False] * (300 - (16 << 20) // size))
            with urllib.request.urlopen(url + "/v1/dictionaries/299") as answer:
                self.assertEqual(json.load(answer)["metadata"], config)


if __name__ == "__main__":
    main()
