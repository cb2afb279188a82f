// deltabox-engine: owns one sandbox (`serve`), or tells what this machine offers (`doctor`).
#include <cstdio>
#include <cstring>
#include <string>

#include "doctor/doctor.h"
#include "engine/paths.h"
#include "engine/serve.h"

namespace {

int usage() {
  std::fputs("usage: deltabox-engine serve | doctor --state-dir DIR\n", stderr);
  return 2;
}

int doctor(const std::string& state_dir) {
  const deltabox::Result<std::string> init_binary = deltabox::init_binary_path();
  if (!init_binary.ok()) {
    std::fprintf(stderr, "%s\n", init_binary.error().describe().c_str());
    return 1;
  }
  return deltabox::run_doctor(state_dir, init_binary.value());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "serve") == 0) return deltabox::serve();
  if (argc == 4 && std::strcmp(argv[1], "doctor") == 0 && std::strcmp(argv[2], "--state-dir") == 0)
    return doctor(argv[3]);
  return usage();
}
