#include "tools/png_file.h"

#ifdef MOE_STB
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>

#include "core/file.h"
#endif

namespace moe::tools {

#ifdef MOE_STB

bool can_write_png() { return true; }

Status write_png(const Canvas& canvas, const std::string& path) {
  MOE_ASSIGN(AtomicFile file, AtomicFile::create(path));
  struct Sink {
    AtomicFile& file;
    Status status;
  } sink{file, Status::Ok()};
  const auto write = [](void* context, void* data, int bytes) {
    auto& s = *static_cast<Sink*>(context);
    if (s.status.ok()) s.status = s.file.write(data, static_cast<size_t>(bytes));
  };
  const int width = canvas.width(), height = canvas.height();
  if (!stbi_write_png_to_func(write, &sink, width, height, 3, canvas.pixels().data(), 3 * width))
    return Status::OutOfMemory(path + ": no memory to compress the picture");
  MOE_TRY(sink.status);
  return file.commit();
}

#else

bool can_write_png() { return false; }

Status write_png(const Canvas&, const std::string& path) {
  return Status::Unsupported(path +
                             ": this build writes no PNG files (stb_image_write.h was not there)\n  install libstb-dev (make " +
                             "deps) and build again");
}

#endif

}  // namespace moe::tools
