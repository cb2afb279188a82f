#include "deltacr/program.h"

#include <cstdlib>
#include <string>

#include "sys/files.h"
#include "tracee/proc_files.h"

namespace deltabox {

Result<std::shared_ptr<const ProgramImage>> read_program(int proc_fd, HostTid pid, const std::string& overlay) {
  const std::string dir = std::to_string(pid.value);
  auto program = std::make_shared<ProgramImage>();
  program->path = overlay + TRY(sys::read_link_at(proc_fd, dir + "/exe"));
  program->auxiliary_vector = TRY(sys::read_file_at(proc_fd, dir + "/auxv", 1u << 16));
  const std::vector<std::string> fields = stat_fields(proc_fd, pid);
  // Numbers of the fields as proc(5) has them.
  const auto field = [&](std::size_t number) {
    return number - 3 < fields.size() ? std::strtoull(fields[number - 3].c_str(), nullptr, 10) : 0;
  };
  program->start_code = field(26);
  program->end_code = field(27);
  program->start_stack = field(28);
  program->start_data = field(45);
  program->end_data = field(46);
  program->start_break = field(47);
  program->arguments = {field(48), field(49)};
  program->environment = {field(50), field(51)};
  return std::shared_ptr<const ProgramImage>(std::move(program));
}

}  // namespace deltabox
