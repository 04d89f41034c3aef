// The two NumPy files of the example: float32 in, int64 out. Both little-endian and in C order, as NumPy writes them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

namespace npy {

inline std::vector<int64_t> sizes_of(const std::string& header, const std::string& path) {
  std::smatch shape;
  if (!std::regex_search(header, shape, std::regex("'shape': \\(([0-9, ]*)\\)")) ||
      header.find("'descr': '<f4'") == std::string::npos || header.find("'fortran_order': False") == std::string::npos)
    throw std::runtime_error(path + " does not hold float32 numbers in C order; save it with numpy.save");
  std::vector<int64_t> sizes;
  const std::string text = shape[1];
  const std::regex number("[0-9]{1,9}");
  for (std::sregex_iterator one(text.begin(), text.end(), number), end; one != end; ++one)
    sizes.push_back(std::stoll(one->str()));
  return sizes;
}

// A float32 array. Throws std::runtime_error when the file is missing, cut off or holds something else.
inline at::Tensor read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read; check the path");
  char start[10];
  if (!file.read(start, sizeof start) || std::string(start, 6) != "\x93NUMPY" || start[6] != 1)
    throw std::runtime_error(path + " is no .npy file of version 1; save it with numpy.save");
  std::string header(uint8_t(start[8]) + 256 * uint8_t(start[9]), ' ');
  file.read(header.data(), std::streamsize(header.size()));
  const auto sizes = sizes_of(header, path);

  const auto begin = file.tellg();
  file.seekg(0, std::ios::end);
  const int64_t held = file.tellg() - begin;
  file.seekg(begin);
  double expected = sizeof(float);
  for (const int64_t size : sizes) expected *= double(size);
  if (!file || double(held) != expected)
    throw std::runtime_error(path + " has another length than its shape tells; it was cut off: save it again");

  at::Tensor array = at::empty(sizes, at::kFloat);
  file.read(static_cast<char*>(array.data_ptr()), held);
  if (!file) throw std::runtime_error(path + " cannot be read to its end");
  return array;
}

// Writes an int64 array. Throws std::runtime_error when the disk does not take it.
inline void write(const std::string& path, const at::Tensor& codes) {
  std::string shape;
  for (const int64_t size : codes.sizes()) shape += std::to_string(size) + ", ";
  std::string header = "{'descr': '<i8', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.append(63 - (10 + header.size()) % 64, ' ').push_back('\n');  // the data begin at a multiple of 64
  const char length[2] = {char(header.size() % 256), char(header.size() / 256)};

  const at::Tensor whole = codes.contiguous();
  std::ofstream file(path, std::ios::binary);
  file.write("\x93NUMPY\x01\x00", 8).write(length, 2) << header;
  file.write(static_cast<const char*>(whole.data_ptr()), std::streamsize(whole.nbytes()));
  if (!file.flush()) throw std::runtime_error(path + " cannot be written; check the folder and the space on the disk");
}

}  // namespace npy
