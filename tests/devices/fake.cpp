// A device for tests: it computes on the CPU, in the CPU's memory, and refuses what a real one would refuse.
//
// Operations on tensors of this device and of the CPU together raise, but for numbers without a dimension and for index
// tensors on the CPU, which CUDA takes as well. There is no float64, as on Apple's GPUs. Everything that is not here is
// copied to the CPU, computed there and copied back.

#include <cstdlib>
#include <cstring>
#include <string>

#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/DispatchStub.h>
#include <ATen/native/Resize.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

namespace {

using at::IntArrayRef;
using at::Tensor;
using std::optional;

constexpr c10::DeviceType FAKE = c10::DeviceType::PrivateUse1;
const c10::Device HERE(FAKE, 0);

// Memory

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* found = bytes ? std::malloc(bytes) : nullptr;
    return {found, found, &std::free, HERE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }
};
Memory memory;
REGISTER_ALLOCATOR(FAKE, &memory);

c10::ScalarType allowed(optional<c10::ScalarType> type) {
  TORCH_CHECK_TYPE(type != c10::ScalarType::Double, "the fake device has no float64");
  return type.value_or(c10::ScalarType::Float);
}

Tensor empty(
    IntArrayRef sizes, optional<c10::ScalarType> type, optional<c10::Layout>, optional<c10::Device>, optional<bool>,
    optional<c10::MemoryFormat> format) {
  return at::detail::empty_generic(
      sizes, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), allowed(type), format);
}

Tensor empty_strided(
    IntArrayRef sizes, IntArrayRef strides, optional<c10::ScalarType> type, optional<c10::Layout>,
    optional<c10::Device>, optional<bool>) {
  return at::detail::empty_strided_generic(
      sizes, strides, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), allowed(type));
}

const Tensor& resize(const Tensor& self, c10::SymIntArrayRef sizes, optional<c10::MemoryFormat>) {
  auto* inside = self.unsafeGetTensorImpl();
  inside->set_sizes_contiguous(C10_AS_INTARRAYREF_SLOW(sizes));
  const size_t needed = (inside->storage_offset() + inside->numel()) * self.itemsize();
  const auto& storage = self.storage();
  if (needed > storage.nbytes()) {
    auto larger = memory.allocate(needed);
    if (storage.nbytes()) std::memcpy(larger.get(), storage.data(), storage.nbytes());
    storage.set_data_ptr(std::move(larger));
    storage.set_nbytes(needed);
  }
  return self;
}

Tensor& set_storage(Tensor& self, c10::Storage storage, int64_t offset, IntArrayRef sizes, IntArrayRef strides) {
  auto* inside = self.unsafeGetTensorImpl();
  inside->set_storage_keep_dtype(std::move(storage));
  inside->set_storage_offset(offset);
  if (strides.size() == sizes.size())
    inside->set_sizes_and_strides(sizes, strides, offset);
  else
    inside->set_sizes_contiguous(sizes);
  return self;
}

Tensor& set_whole_storage(Tensor& self, c10::Storage storage) {
  const int64_t elements = static_cast<int64_t>(storage.nbytes() / self.itemsize());
  return set_storage(self, std::move(storage), 0, {elements}, {});
}

// To the CPU and back

// The same memory as a tensor of the CPU.
Tensor on_cpu(const Tensor& self) {
  if (!self.defined() || self.device().type() != FAKE) return self;
  return at::from_blob(
      self.data_ptr(), self.sizes(), self.strides(), [self](void*) {}, self.options().device(c10::kCPU));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  on_cpu(to).copy_(on_cpu(from));
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  if (to.sizes() != from.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, false);
}

c10::Scalar number(const Tensor& self) { return on_cpu(self).item(); }

Tensor as_strided(const Tensor& self, IntArrayRef sizes, IntArrayRef strides, optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, sizes, strides, offset);
}

// What is computed

void refuse_mixed(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const auto& schema = op.schema();
  const auto given = torch::jit::last(stack, schema.arguments().size());
  const bool indexes = schema.name().find("aten::index") == 0 || schema.name() == "aten::_index_put_impl_";
  bool here = false;
  std::string elsewhere;
  auto see = [&](const Tensor& tensor, size_t argument) {
    if (!tensor.defined()) return;
    if (tensor.device().type() == FAKE)
      here = true;
    else if (tensor.dim() > 0)
      elsewhere += " " + schema.arguments()[argument].name();
  };
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i].isTensor())
      see(given[i].toTensor(), i);
    else if (given[i].isTensorList())
      for (const auto& tensor : given[i].toTensorVector()) see(tensor, i);
    else if (given[i].isOptionalTensorList() && !(indexes && given[0].toTensor().device().type() == FAKE))
      for (const auto& tensor : given[i].toOptionalTensorVector())
        if (tensor) see(*tensor, i);
  }
  TORCH_CHECK(
      !here || elsewhere.empty(), "Expected all tensors to be on the same device: ", schema.name(),
      " was given on the CPU:", elsewhere);
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  refuse_mixed(op, *stack);
  at::native::cpu_fallback(op, stack);
}

void same(const Tensor& one, const Tensor& other) {
  TORCH_CHECK(one.device() == other.device(), "Expected all tensors to be on the same device: convolution");
}

Tensor convolution(
    const Tensor& input, const Tensor& weight, const optional<Tensor>& bias, IntArrayRef stride, IntArrayRef padding,
    IntArrayRef dilation, bool transposed, IntArrayRef output_padding, int64_t groups) {
  same(input, weight);
  optional<Tensor> added;
  if (bias && bias->defined()) {
    same(input, *bias);
    added = bias->cpu();
  }
  return at::convolution(
             input.cpu(), weight.cpu(), added, stride, padding, dilation, transposed, output_padding, groups)
      .to(HERE);
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& slope, const Tensor& input, const Tensor& weight, IntArrayRef stride, IntArrayRef padding,
    IntArrayRef dilation, bool transposed, IntArrayRef output_padding, int64_t groups, std::array<bool, 3> wanted) {
  same(slope, input);
  same(slope, weight);
  const int64_t channels = slope.size(1);
  auto [by_input, by_weight, by_bias] = at::convolution_backward(
      slope.cpu(), input.cpu(), weight.cpu(), IntArrayRef(&channels, 1), stride, padding, dilation, transposed,
      output_padding, groups, wanted);
  auto back = [](const Tensor& found) { return found.defined() ? found.to(HERE) : found; };
  return {back(by_input), back(by_weight), back(by_bias)};
}

int64_t plain_attention(
    const Tensor&, const Tensor&, const Tensor&, const optional<Tensor>&, double, bool, optional<double>, bool) {
  return 0;  // neither flash nor memory-efficient
}

// What PyTorch asks of any device

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return FAKE; }
  c10::Device exchangeDevice(c10::Device) const override { return HERE; }
  c10::Device getDevice() const override { return HERE; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, HERE); }
  c10::Stream getNewStream(c10::Device, int = 0) const override { return c10::Stream(c10::Stream::DEFAULT, HERE); }
  c10::Stream exchangeStream(c10::Stream) const override { return c10::Stream(c10::Stream::DEFAULT, HERE); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};
const bool hooked = [] {
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("resize_", resize);
  m.impl("set_.source_Storage", set_whole_storage);
  m.impl("set_.source_Storage_storage_offset", set_storage);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", number);
  m.impl("as_strided", as_strided);
  m.impl("view", at::native::view);
  m.impl("unfold", at::native::unfold);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

// Under autocast, multiplications are done in the lower precision.
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(matmul, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(scaled_dot_product_attention, lower_precision_fp)
}

}  // namespace

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &plain_attention);
}
