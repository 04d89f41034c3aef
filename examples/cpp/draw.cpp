// Draws images of codes from an archive that `export-model --format torchscript` wrote, with libtorch alone.
//
//     draw ARCHIVE.pt NOISE.npy CODES.npy [--label 0,1,2] [--temperature 1.0]
//
// docs/graph-contract.md says what the parts of an archive take and give; this is its section "Rules" in C++.

#include "npy.h"

#include <ATen/ops/full.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

const char* const kManifest = "pixelsnail_infer.manifest";
const char* const kUsage = "draw ARCHIVE.pt NOISE.npy CODES.npy [--label 0,1,2] [--temperature 1.0]";

[[noreturn]] void fail(const std::string& message) { throw std::runtime_error(message); }

// What the command line asks for.
struct Request {
  std::string archive, noise, codes;
  std::vector<int64_t> labels;
  double temperature = 1.0;
};

double number_in(const std::string& text, const std::string& option) {
  static const std::regex plain("[0-9]{1,9}([.][0-9]{1,9})?");
  if (!std::regex_match(text, plain)) fail(option + " is '" + text + "', expected a number of at least 0");
  return std::stod(text);
}

std::vector<int64_t> labels_in(const std::string& text) {
  static const std::regex listed("[0-9]{1,9}(,[0-9]{1,9})*"), one("[0-9]+");
  if (!std::regex_match(text, listed)) fail("--label is '" + text + "', expected classes such as 0,1,2");
  std::vector<int64_t> labels;
  for (std::sregex_iterator found(text.begin(), text.end(), one), end; found != end; ++found)
    labels.push_back(std::stoll(found->str()));
  return labels;
}

Request request_of(const std::vector<std::string>& arguments) {
  Request request;
  std::vector<std::string> files;
  for (size_t k = 0; k < arguments.size(); ++k) {
    const std::string& given = arguments[k];
    if (given == "--label" || given == "--temperature") {
      if (++k == arguments.size()) fail(given + " needs a value; use: " + kUsage);
      if (given == "--label") request.labels = labels_in(arguments[k]);
      else request.temperature = number_in(arguments[k], given);
    } else if (given.rfind("--", 0) == 0) {
      fail(given + " is no option; use: " + kUsage);
    } else {
      files.push_back(given);
    }
  }
  if (files.size() != 3) fail(std::to_string(files.size()) + " files are given, expected three; use: " + kUsage);
  request.archive = files[0], request.noise = files[1], request.codes = files[2];
  std::error_code missing;
  for (const std::string& read : {request.archive, request.noise})
    if (std::filesystem::equivalent(read, request.codes, missing)) fail(read + " would be written over; name another");
  return request;
}

// One part of the archive, such as the step: a module, and the names of what it takes and gives.
class Part {
 public:
  explicit Part(torch::jit::Module module)
      : inputs(names(module.attr("inputs"))), outputs(names(module.attr("outputs"))), module_(std::move(module)) {}

  // Sizes of a tensor, -1 for the batch.
  std::vector<int64_t> shape(const std::string& name) const {
    return module_.attr("shapes").toGenericDict().at(name).toIntVector();
  }

  std::string dtype(const std::string& name) const {
    return module_.attr("dtypes").toGenericDict().at(name).toStringRef();
  }

  std::vector<at::Tensor> run(std::vector<c10::IValue> taken) {
    const c10::IValue result = module_.forward(std::move(taken));
    std::vector<at::Tensor> given;
    for (const c10::IValue& one : result.toTupleRef().elements()) given.push_back(one.toTensor());
    return given;
  }

  const std::vector<std::string> inputs, outputs;

 private:
  static std::vector<std::string> names(const c10::IValue& list) {
    std::vector<std::string> found;
    for (const c10::IValue& name : list.toListRef()) found.push_back(name.toStringRef());
    return found;
  }

  torch::jit::Module module_;
};

// The archive's parts, and its manifest. Of that JSON a few numbers are needed, in objects that hold no others.
class Archive {
 public:
  explicit Archive(const std::string& path) {
    torch::jit::ExtraFilesMap extra{{kManifest, ""}};
    torch::jit::Module module;
    try {
      module = torch::jit::load(path, std::nullopt, extra);
    } catch (const std::exception&) {
      fail(path + " cannot be read as a TorchScript archive; check the path, or export it with --format torchscript");
    }
    manifest_ = extra.at(kManifest);
    if (number("format_version", manifest_, 0) != 1) fail(path + " has no manifest of format version 1; export it again");
    for (const auto& child : module.named_children()) parts_.emplace(child.name, Part(child.value));
  }

  bool has(const std::string& part) const { return parts_.count(part) > 0; }

  Part& part(const std::string& name) {
    if (!has(name)) fail("the archive has no part '" + name + "'; export it again");
    return parts_.at(name);
  }

  // The number `key` of the condition or state `name`.
  double number_of(const std::string& name, const std::string& key) const {
    const size_t begin = manifest_.find("{\"name\": \"" + name + "\"");
    if (begin != std::string::npos) {
      const double found = number(key, manifest_.substr(begin, manifest_.find('}', begin) - begin), NAN);
      if (std::isfinite(found)) return found;
    }
    fail("the manifest has no " + key + " of '" + name + "'; export the archive again");
  }

 private:
  static double number(const std::string& key, const std::string& text, double otherwise) {
    std::smatch found;
    if (!std::regex_search(text, found, std::regex("\"" + key + "\": (-?[0-9][-+.0-9eE]*)"))) return otherwise;
    return std::stod(found[1]);
  }

  std::string manifest_;
  std::map<std::string, Part> parts_;
};

at::ScalarType type_of(const std::string& dtype) {
  static const std::map<std::string, at::ScalarType> known{
      {"float32", at::kFloat}, {"int64", at::kLong}, {"bool", at::kBool}};
  if (known.count(dtype) == 0) fail("the archive has tensors of " + dtype + ", which this example does not know");
  return known.at(dtype);
}

// All tensors by name, inputs and outputs of every part.
class Drawing {
 public:
  Drawing(Archive& archive, int64_t images, double temperature) : archive_(archive), images_(images) {
    fill("step", "temperature", temperature);
    fill("step", "given", 0);
    fill("step", "use_given", 0);  // no pixel is known beforehand
    for (const char* part : {"row", "step"})
      for (const std::string& name : archive.part(part).inputs)
        if (name.rfind("state.", 0) == 0) fill(part, name, archive.number_of(name, "initial"));
  }

  void condition(const std::vector<int64_t>& labels) {
    if (!archive_.has("prologue")) {
      if (!labels.empty()) fail("--label is given, but the model has no classes; leave it out");
      return;
    }
    Part& prologue = archive_.part("prologue");
    for (const std::string& name : prologue.inputs)
      if (name != "label" || prologue.shape(name).size() != 1 || prologue.dtype(name) != "int64")
        fail("the model is conditioned on '" + name + "'; this example knows classes called 'label' only");
    if (labels.size() != 1 && int64_t(labels.size()) != images_)
      fail(std::to_string(labels.size()) + " labels are given for " + std::to_string(images_) +
           " images; give --label with one, or one for each");
    const auto levels = int64_t(archive_.number_of("label", "levels"));
    at::Tensor classes = at::empty({images_}, at::kLong);
    for (int64_t image = 0; image < images_; ++image) {
      const int64_t label = labels[labels.size() == 1 ? 0 : size_t(image)];
      if (label >= levels) fail("label " + std::to_string(label) + " is not below " + std::to_string(levels));
      classes.data_ptr<int64_t>()[image] = label;
    }
    held_["label"] = classes;
    run("prologue");
  }

  // Codes int64 [n, H, W] from noise float32 [n, H, W, L].
  at::Tensor draw(const at::Tensor& noise) {
    const int64_t height = noise.size(1), width = noise.size(2);
    at::Tensor codes = at::empty({images_, height, width}, at::kLong);
    for (int64_t i = 0; i < height; ++i) {
      held_["row"] = at::full({images_}, i, at::kLong);
      held_["noise"] = noise.select(1, i).contiguous();
      run("row");
      for (int64_t j = 0; j < width; ++j) {
        held_["col"] = at::full({1}, j, at::kLong);
        run("step");  // draws the pixel, and writes the states where they are
        codes.select(1, i).select(1, j).copy_(held_.at("pixel"));
      }
    }
    return codes;
  }

 private:
  // One number in all of a tensor that the part takes.
  void fill(const std::string& part, const std::string& name, double number) {
    std::vector<int64_t> shape = archive_.part(part).shape(name);
    shape.at(0) = images_;
    held_[name] = at::full(shape, number, type_of(archive_.part(part).dtype(name)));
  }

  void run(const std::string& name) {
    Part& part = archive_.part(name);
    std::vector<c10::IValue> taken;
    for (const std::string& input : part.inputs) taken.emplace_back(held_.at(input));
    const std::vector<at::Tensor> given = part.run(std::move(taken));
    for (size_t k = 0; k < given.size(); ++k) held_[part.outputs[k]] = given[k];
  }

  Archive& archive_;
  int64_t images_;
  std::map<std::string, at::Tensor> held_;
};

// Raises unless the noise is [n, H, W, L] for this model, n at least 1.
void check_noise(Archive& archive, const at::Tensor& noise, const std::string& path) {
  if (archive.part("step").dtype("pixel") != "int64") fail("the archive draws colours; this example writes codes only");
  const auto step = archive.part("step").shape("noise"), score = archive.part("score").shape("pixels");
  const std::vector<int64_t> image{score.at(1), score.at(2), step.at(2)};
  if (noise.dim() == 4 && noise.size(0) > 0 && noise.sizes().slice(1) == at::IntArrayRef(image)) return;
  std::string found, expected;
  for (const int64_t size : noise.sizes()) found += (found.empty() ? "" : ", ") + std::to_string(size);
  for (const int64_t size : image) expected += ", " + std::to_string(size);
  fail(path + " is [" + found + "], expected [images" + expected + "]");
}

void run(const Request& request) {
  const c10::InferenceMode inference;
  const torch::jit::GraphOptimizerEnabledGuard as_written(false);  // the same bits from the first run on
  Archive archive(request.archive);
  const at::Tensor noise = npy::read(request.noise);
  check_noise(archive, noise, request.noise);
  Drawing drawing(archive, noise.size(0), request.temperature);
  drawing.condition(request.labels);
  npy::write(request.codes, drawing.draw(noise));
}

// TorchScript puts a trace of its program before the line that says what is wrong.
std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace

int main(int count, char** arguments) {
  try {
    run(request_of({arguments + 1, arguments + count}));
    return 0;
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "draw: %s\n", last_line(error.what_without_backtrace()).c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "draw: %s\n", last_line(error.what()).c_str());
  }
  return 1;
}
