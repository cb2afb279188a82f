// Results in tests: must() takes the value out or ends the test case with the error's sentence.
#pragma once

#include <doctest/doctest.h>

#include "base/result.h"

namespace deltabox::test {

template <typename T>
T must(Result<T> result) {
  if (!result.ok()) FAIL(result.error().describe());
  return result.release_value();
}

inline void must(Result<void> result) {
  if (!result.ok()) FAIL(result.error().describe());
}

template <typename T>
Error must_fail(Result<T> result) {
  if (result.ok()) FAIL("succeeded where an error was expected");
  return result.release_error();
}

}  // namespace deltabox::test
