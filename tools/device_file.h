// --device-profile FILE|edge|mobile|server: the device a search is for. `moe-bench calibrate` writes such files.
#pragma once

#include <string>

#include "evolution/device.h"
#include "tools/common.h"

namespace moe::tools {

// Declares the option; an empty name: none was given.
CLI::Option* add_device_option(CLI::App& app, std::string& name);

// A shipped profile by its name, or a file where there is a '/' or '.' in it. kNotFound lists the shipped ones.
Result<DeviceProfile> read_device(const std::string& name);
Status write_device(const DeviceProfile& device, const std::string& path);  // whole or not at all

// "edge: 1 GB, 100 ms a token, 3 GB/s, 60 Gop/s int8, 4 threads; latency modelled from its rates"
std::string device_text(const DeviceProfile& device);

}  // namespace moe::tools
