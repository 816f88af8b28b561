// SPDX-License-Identifier: MIT
// torch.compile, which is Python: torch_compile.py makes a function of a case, called from here as any other contender.
#include <pybind11/embed.h>
#include <pybind11/stl.h>

#include "peers.hpp"

namespace bench {
namespace {

namespace py = pybind11;

const char* name_of(Layer layer) {
  switch (layer) {
    case Layer::batch_norm:
      return "batch_norm";
    case Layer::layer_norm:
      return "layer_norm";
    case Layer::rms_norm:
      return "rms_norm";
    case Layer::instance_norm:
      return "instance_norm";
    case Layer::group_norm:
      return "group_norm";
  }
  return "";
}

py::module_& torch_compile_module() {
  // Never taken down: torch's threads would outlive the interpreter.
  static auto* const module = [] {
    py::initialize_interpreter();
    py::module_::import("sys").attr("path").attr("insert")(0, BENCH_PEERS_DIRECTORY);
    auto* const imported = new py::module_(py::module_::import("torch_compile"));
    PyEval_SaveThread();  // libtorch's autograd, another contender, refuses to run while the lock is held
    return imported;
  }();
  return *module;
}

std::uintptr_t address(const Buffer& buffer) { return reinterpret_cast<std::uintptr_t>(buffer.data()); }

Contender contender_for(const Case& c, const Tensors& t) {
  // What a call from Python costs would be most of a shorter one.
  if (c.count() < 32768) return {};
  using namespace py::literals;
  const py::module_& module = torch_compile_module();
  const py::gil_scoped_acquire lock;
  py::object compiled = module.attr("compiled_case")(
      name_of(c.layer),
      c.job == Job::eval      ? "eval"
      : c.job == Job::forward ? "forward"
                              : "backward",
      c.shape, c.channels == Channels::last, c.groups, kEps, "x"_a = address(t.x), "dy"_a = address(t.dy),
      "result"_a = address(t.result), "weight"_a = address(t.weight), "bias"_a = address(t.bias),
      "mean"_a = address(t.running_mean), "variance"_a = address(t.running_variance));
  if (compiled.is_none()) return {};
  const std::shared_ptr<py::object> function(new py::object(std::move(compiled)), [](const py::object* object) {
    const py::gil_scoped_acquire lock_to_forget;
    delete object;
  });
  return {.name = {},
          .call =
              [function](long times) {
                const py::gil_scoped_acquire lock_to_run;
                for (; times > 0; --times) (*function)();
              },
          .overhead = module.attr("call_overhead")().cast<double>()};
}

}  // namespace

Peer torch_compile() {
  const py::module_& module = torch_compile_module();
  const py::gil_scoped_acquire lock;
  const auto about = [&](const char* function) { return module.attr(function)().cast<std::string>(); };
  return {"torch.compile", about("version"), about("instruction_set"), contender_for};
}

}  // namespace bench
