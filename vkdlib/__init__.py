"""vkdlib: make a multimodal LLM forget a person's face by Visual Knowledge Distillation (VKD).

This file stays light: it imports nothing. Import what you need from the modules:

    from vkdlib.benchmarks.load import load_benchmark
    from vkdlib.evaluation.evaluate import evaluate
    from vkdlib.evaluation.metrics import summarise
    from vkdlib.methods import make_method
    from vkdlib.models.loading import load
    from vkdlib.tasks import make_tasks
    from vkdlib.unlearning import unlearn

    split = load_benchmark("testbed/mllmu").split(5)  # or a folder of parquet files, or a Hub id
    model = load("testbed/llava-mllmu/vanilla")  # or a folder or Hub id: LLaVA, Qwen2-VL, Qwen2.5-VL
    unlearn(model, make_tasks(model, split), make_method("VKD", beta=3.0, d_I=1.3), epochs=50, lr=1e-3)
    print(summarise(evaluate(model, split)))

From equation to code:

    Eq. 2, Eq. 5   output-level loss      losses.output_loss
    Eq. 3          total loss             losses.total_loss
    Eq. 4          distillation           losses.vkd_loss
    Eq. 6          neuron importance      pruning.importance
    Eq. 7          its ratio              pruning.importance_ratio
    Eq. 8          which neurons to prune pruning.neurons_to_prune
    Eq. 9          Fisher information     masking.fisher
    Eq. 10         saliency ratio         masking.saliency_ratio
    Eq. 11         weight mask            masking.weight_mask
    3.2            the method             methods.vkd.VKD, in the loop of unlearning.unlearn
    4.2            the baselines          methods.ga, ga_diff, kl_min, npo, manu, mmunlearner
    all tables     published numbers      reports.paper.published.paper_cells, checked by
                                             reports.paper.audit.audit_cells

Where the paper leaves something open:

- Questions in text. With the language model frozen they reach no trained weight. So the QA terms of Eq. 2,
  5, 7 and 10 have exactly zero gradient, and answers in text cannot change. These terms are not computed in
  training; a test shows that they vanish. `qa_image="blank"` gives these questions a grey picture instead.
- Fisher information. `fisher="summed"` squares the mean gradient of the whole set (Eq. 9 as written). "batch"
  and "sample" average the squares of batches or of single questions.
- Mask. It covers all trained weights, those of the projector as well. `mask_scope="forget"` multiplies the
  forget term's gradient (Eq. 5 as written). "update" keeps masked weights bit-identical. `order` says whether
  the mask is that of the pruned model or, with "parallel", of the vanilla one, as Eq. 9 has it.
- Thresholds, learning rate and epochs are not published, and β depends on how Eq. 4 is averaged. Ours were
  chosen on selection people, who are never reported: see `experiments.presets` and notebooks/sweeps.
- CLEAR's "Real-world QA" has the size of real_faces, where faces are named. We call it "Real faces".
- Retain-only and never-saw models are taught what Eq. 2 retains: everything but the pictures of people to
  forget.
"""

__version__ = "0.2.0"
