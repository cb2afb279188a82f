#include "sandbox/system_plan.h"

#include <algorithm>
#include <set>

#include "expect.h"

namespace deltabox::test {

namespace {

std::string path_of(const ViewEntry& entry) {
  return std::visit([](const auto& one) { return one.path; }, entry);
}

const SystemView* find_view(const SystemPlan& plan, const std::string& path) {
  const auto found =
      std::find_if(plan.views.begin(), plan.views.end(), [&](const SystemView& view) { return view.path == path; });
  return found != plan.views.end() ? &*found : nullptr;
}

}  // namespace

TEST_CASE("names and passwords go from URLs, and nothing else") {
  CHECK(without_credentials("deb https://name:word@example.org/debian stable main\n") ==
        "deb https://example.org/debian stable main\n");
  CHECK(without_credentials("a http://x@b/ c https://y:z@d e") == "a http://b/ c https://d e");
  for (const char* text :
       {"", "no address", "deb http://example.org/a@b c", "mail me@example.org http://example.org",
        "deb [signed-by=/a@b] https://example.org/ x", "http://", "URIs: http://example.org\nX: a@b"}) {
    CHECK(without_credentials(text) == text);
  }
}

TEST_CASE("every entry of a view comes after its directory, and once") {
  for (const SystemView& view : plan_system(true, "").views) {
    std::set<std::string> dirs{""};
    std::set<std::string> made;
    for (const ViewEntry& entry : view.entries) {
      const std::string path = path_of(entry);
      CAPTURE(view.path + " " + path);
      REQUIRE_FALSE(path.starts_with("/"));
      REQUIRE(made.insert(path).second);
      const std::size_t slash = path.rfind('/');
      REQUIRE(dirs.contains(slash == std::string::npos ? "" : path.substr(0, slash)));
      if (std::holds_alternative<ViewDir>(entry)) dirs.insert(path);
    }
  }
}

TEST_CASE("of /etc and /var only what is named is shown, and nothing secret") {
  const SystemPlan plan = plan_system(true, "10.0.0.1 named\n");
  for (const char* path : {"/etc", "/var"}) {
    const SystemView* view = find_view(plan, path);
    if (view == nullptr) continue;  // a mount point lies in it
    CHECK_FALSE(view->whole);
    for (const ViewEntry& entry : view->entries) {
      const std::string name = path_of(entry);
      CAPTURE(name);
      for (const char* secret :
           {"shadow", "gshadow", "sudoers", "ssh", "apt/auth.conf", "apt/auth.conf.d", "lib/docker"}) {
        CHECK(name != secret);
        CHECK_FALSE(name.starts_with(std::string(secret) + "/"));
      }
      if (name == "ssl/private" || name == "lib/dpkg/lock") CHECK(std::holds_alternative<ViewHidden>(entry));
      if (const ViewDir* dir = std::get_if<ViewDir>(&entry)) {
        for (const char* own : {"lib", "log", "cache", "spool", "default", "apt"})
          CHECK((dir->path != own || !dir->shows_host));
      }
    }
  }
  if (const SystemView* etc = find_view(plan, "/etc")) {
    const auto hosts = std::find_if(etc->entries.begin(), etc->entries.end(),
                                    [](const ViewEntry& entry) { return path_of(entry) == "hosts"; });
    REQUIRE(hosts != etc->entries.end());
    CHECK(std::get<ViewFile>(*hosts).contents.find("10.0.0.1 named\n") != std::string::npos);
  }
}

}  // namespace deltabox::test
