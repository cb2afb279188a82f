#include "checkpoint/open_files.h"

#include <fcntl.h>

#include <algorithm>
#include <map>

namespace deltabox {

namespace {

using ByPath = std::vector<std::map<std::string, FileToKeep>>;

std::string relative_to(const VolumeView& volume, const std::string& path) {
  return path.size() > volume.path.size() ? path.substr(volume.path.size() + 1) : std::string();
}

ByPath collect(const TreeImage& image, const std::vector<VolumeView>& volumes) {
  ByPath found(volumes.size());
  const auto entry = [&](int volume, const std::string& path) -> FileToKeep& {
    const auto index = static_cast<std::size_t>(volume);
    const std::string relative = relative_to(volumes[index], path);
    FileToKeep& file = found[index][relative];
    file.path = relative;
    return file;
  };
  for (const Description& description : image.descriptions) {
    const bool writes = (description.status_flags & O_ACCMODE) != O_RDONLY && (description.status_flags & O_PATH) == 0;
    if (description.kind != DescriptionKind::kFile || description.type != "file" || description.volume < 0 ||
        description.deleted || !writes) {
      continue;
    }
    entry(description.volume, description.path).shown_inode = description.inode;
  }
  for (const ProcessImage& process : image.processes) {
    for (const Mapping& mapping : *process.mappings) {
      if (mapping.shared && mapping.volume >= 0 && !mapping.is_deleted()) {
        entry(mapping.volume, mapping.name).mapped_for_writing = true;
      }
    }
  }
  return found;
}

}  // namespace

FilesToKeep files_to_keep(const TreeImage& image, const std::vector<VolumeView>& volumes) {
  FilesToKeep files;
  for (auto& by_path : collect(image, volumes)) {
    files.emplace_back();
    for (auto& [path, file] : by_path) files.back().push_back(std::move(file));
  }
  return files;
}

FilesToKeep files_to_take_over(const TreeImage& live, const TreeImage& target,
                               const std::vector<std::vector<KeptFile>>& known,
                               const std::vector<VolumeView>& volumes) {
  const ByPath now = collect(live, volumes);
  ByPath then = collect(target, volumes);
  FilesToKeep files(volumes.size());
  for (std::size_t volume = 0; volume < volumes.size() && volume < known.size(); ++volume) {
    for (const KeptFile& kept : known[volume]) {
      const auto wanted = then[volume].find(kept.path);
      if (wanted == then[volume].end()) continue;
      FileToKeep file = std::move(wanted->second);
      const auto present = now[volume].find(kept.path);
      file.mapped_for_writing =
          file.mapped_for_writing || (present != now[volume].end() && present->second.mapped_for_writing);
      file.shown_inode = 0;
      file.inode = kept.inode;
      file.names = kept.names;
      files[volume].push_back(std::move(file));
    }
  }
  return files;
}

}  // namespace deltabox
