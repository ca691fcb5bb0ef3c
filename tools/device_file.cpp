#include "tools/device_file.h"

#include "core/file.h"

namespace moe::tools {
namespace {

constexpr size_t kMostBytes = size_t{1} << 16;

std::string shipped_names() {
  std::string names;
  for (const DeviceProfile& d : shipped_devices()) names += (names.empty() ? "" : ", ") + d.name;
  return names;
}

}  // namespace

CLI::Option* add_device_option(CLI::App& app, std::string& name) {
  return app.add_option("--device-profile", name,
                        "device to search for: " + shipped_names() + ", or a file that moe-bench calibrate wrote");
}

Result<DeviceProfile> read_device(const std::string& name) {
  for (const DeviceProfile& d : shipped_devices())
    if (d.name == name) return d;
  if (name.find_first_of("/.") == std::string::npos)
    return Status::NotFound("device profile: wanted a file or one of " + shipped_names() + ", found '" + name + "'");
  MOE_ASSIGN(const std::string text, read_text_file(name, kMostBytes));
  Result<DeviceProfile> device = device_from_json(text);
  if (!device.ok()) return device.status().Annotate(name);
  return device;
}

Status write_device(const DeviceProfile& device, const std::string& path) { return write_text_file(path, to_json(device)); }

std::string device_text(const DeviceProfile& d) {
  std::string text = d.name + ":";
  const auto add = [&](double value, const std::string& what) {
    if (value > 0) text += (text.back() == ':' ? " " : ", ") + what;
  };
  add(d.memory_bytes, format_bytes(d.memory_bytes));
  add(d.target_latency_ms, format_fixed(d.target_latency_ms, 1) + " ms a token");
  add(d.read_gbs, format_fixed(d.read_gbs, 1) + " GB/s");
  add(d.int8_gops, format_fixed(d.int8_gops, 0) + " Gop/s int8");
  add(d.fp16_gflops, format_fixed(d.fp16_gflops, 0) + " GFLOP/s fp16");
  add(d.fp32_gflops, format_fixed(d.fp32_gflops, 0) + " GFLOP/s fp32");
  add(d.threads, std::to_string(d.threads) + " threads");
  if (d.latency.n_measured == 0) return text + "; latency modelled from its rates";
  return text + "; latency fitted to " + std::to_string(d.latency.n_measured) + " measurements, off by " +
         format_fixed(100 * d.latency.worst_residual, 1) + " % at most";
}

}  // namespace moe::tools
