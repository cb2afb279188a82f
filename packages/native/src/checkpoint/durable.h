// Makes checkpoints safe against a crash of the machine, behind their backs: digests of their layers, one sync of the
// store's file system for all that wait, then a mark. On the store's worker.
#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/records.h"
#include "deltafs/layer.h"
#include "deltafs/store_worker.h"

namespace deltabox {

class DurableWriter {
 public:
  // Both outlive this.
  DurableWriter(const RecordStore& records, StoreWorker& worker) : records_(records), worker_(worker) {}

  // `layers`: all that the checkpoint needs.
  void add(const std::string& id, std::vector<std::shared_ptr<const Layer>> layers);
  // Begins with those added; once the record of the live state names them, so that one sync takes all.
  void start();
  // One that an earlier engine made durable.
  void adopt(const std::string& id);
  bool is_durable(const std::string& id) const;
  void forget(const std::string& id);

 private:
  struct Waiting {
    std::string id;
    std::vector<std::shared_ptr<const Layer>> layers;
  };
  void write_all();

  const RecordStore& records_;
  StoreWorker& worker_;
  mutable std::mutex mutex_;
  std::vector<Waiting> waiting_;
  bool posted_ = false;
  std::set<std::string> durable_;
};

}  // namespace deltabox
