#include "tools/byte_size.h"

#include <cctype>
#include <charconv>
#include <cmath>

namespace moe::tools {

Result<double> parse_bytes(const std::string& text) {
  const Status refused =
      Status::InvalidArgument("wanted a size such as 2GB, 500MB or 1.5GiB, found '" + text.substr(0, 40) + "'");
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc()) return refused;
  std::string unit;
  for (const char* c = stop; c != end; ++c)
    if (*c != ' ') unit += static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
  if (unit.ends_with('b')) unit.pop_back();
  const bool binary = unit.size() == 2 && unit[1] == 'i';
  const size_t power = unit.empty() ? 0 : std::string("kmgt").find(unit[0]) + 1;  // npos + 1 is 0
  if (!unit.empty() && (power == 0 || unit.size() > (binary ? 2u : 1u))) return refused;
  number *= std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(power));
  return number > 0 && std::isfinite(number) ? Result<double>(number) : refused;
}

}  // namespace moe::tools
