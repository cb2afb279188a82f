// What the Node-API module exports. Arguments are checked in TypeScript; here only their kinds are, so that a wrong
// call is a TypeError and not a crash.
#include <napi.h>

#include <string>
#include <vector>

#include "channel.h"
#include "engine_process.h"
#include "sys_error.h"

namespace deltabox::addon {
namespace {

Napi::Value SpawnEngineFromJs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 3 || !info[0].IsString() || !info[1].IsArray() || !info[2].IsString()) {
    throw Napi::TypeError::New(env, "spawnEngine(enginePath, args, logPath)");
  }
  std::vector<std::string> args;
  Napi::Array list = info[1].As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); ++i) args.push_back(list.Get(i).ToString().Utf8Value());
  try {
    OwnedFd socket = SpawnEngine(info[0].As<Napi::String>().Utf8Value(), args, info[2].As<Napi::String>().Utf8Value());
    return Napi::Number::New(env, socket.Release());
  } catch (const SysError& error) {
    throw error.ToNapi(env);
  }
}

Napi::Value ConnectEngineFromJs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsString()) throw Napi::TypeError::New(env, "connectEngine(sandboxDir)");
  try {
    return Napi::Number::New(env, ConnectEngine(info[0].As<Napi::String>().Utf8Value()).Release());
  } catch (const SysError& error) {
    throw error.ToNapi(env);
  }
}

Napi::Value CreateMemfdFromJs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsTypedArray()) throw Napi::TypeError::New(env, "createMemfd(data)");
  auto data = info[0].As<Napi::Uint8Array>();
  try {
    return Napi::Number::New(env, CreateMemfd(data.Data(), data.ByteLength()).Release());
  } catch (const SysError& error) {
    throw error.ToNapi(env);
  }
}

Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("spawnEngine", Napi::Function::New(env, SpawnEngineFromJs, "spawnEngine"));
  exports.Set("connectEngine", Napi::Function::New(env, ConnectEngineFromJs, "connectEngine"));
  exports.Set("createMemfd", Napi::Function::New(env, CreateMemfdFromJs, "createMemfd"));
  exports.Set("Channel", Channel::Define(env));
  return exports;
}

NODE_API_MODULE(deltabox_addon, Initialize)

}  // namespace
}  // namespace deltabox::addon
