#include "drivers/projection.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "drivers/packed_weight.hpp"
#include "drivers/panel_product.hpp"
#include "drivers/row_product.hpp"
#include "plan/projection_plan.hpp"
#include "platform/blas.hpp"
#include "platform/parallel.hpp"

namespace headwise::detail {
namespace {

/// Rows of input and output that one BLAS call can walk.
template <class T>
struct TokenRows {
  std::int64_t count;
  const T* input;
  std::int64_t input_stride;
  T* output;
  std::int64_t output_stride;
};

/// The stride of all batch · tokens rows, or nothing if they have no common one that BLAS takes.
template <class T>
std::optional<std::int64_t> common_row_stride(const TensorView<T, 3>& view) {
  if (view.extent(0) == 1) return view.stride(1);
  const bool one_token = view.extent(1) == 1;
  if (!one_token && view.stride(0) != view.extent(1) * view.stride(1)) return std::nullopt;
  const std::int64_t stride = one_token ? view.stride(0) : view.stride(1);
  return stride >= view.extent(2) && stride <= max_leading_dimension() ? std::optional(stride) : std::nullopt;
}

int resolved(int num_threads) { return num_threads > 0 ? num_threads : default_num_threads(); }

/// Fills every row with the bias, or with zeros. BLAS adds the product to it: no second pass over the output.
template <class T>
void fill_with_bias(const TokenRows<T>& rows, std::span<const T> bias, std::int64_t outputs, int num_threads) {
  constexpr std::int64_t task_elements = 1 << 16;  // some 20 µs of stores, which pay for a parallel region
  const std::int64_t task_rows = std::max<std::int64_t>(task_elements / outputs, 1);
  const std::int64_t tasks = (rows.count + task_rows - 1) / task_rows;
  parallel_for(resolved(num_threads), tasks, [&](int, std::int64_t task) {
    const std::int64_t end = std::min(rows.count, (task + 1) * task_rows);
    for (std::int64_t row = task * task_rows; row < end; ++row) {
      T* output = rows.output + row * rows.output_stride;
      if (bias.empty()) {
        std::fill_n(output, outputs, T(0));
      } else {
        std::copy(bias.begin(), bias.end(), output);
      }
    }
  });
}

/// The product of all rows with a weight; `accumulate` is left to the caller.
template <class T>
GemmArguments<T> product_of(const TokenRows<T>& rows, const Projection<T>& projection, const WeightLayout& weight) {
  // The stride of a single row is never walked and may be anything, so BLAS gets one that it accepts.
  const bool single = rows.count == 1;
  return {.rows = rows.count,
          .columns = projection.outputs(),
          .inner = projection.inputs(),
          .a = rows.input,
          .a_stride = single ? projection.inputs() : rows.input_stride,
          .b = projection.weight.data,
          .b_stride = weight.stride,
          .b_transposed = weight.transposed,
          .c = rows.output,
          .c_stride = single ? projection.outputs() : rows.output_stride};
}

template <class T>
bool is_packed(const Projection<T>& projection) {
  return projection.packed != nullptr;
}

/// What computes the product of so many rows with the weight; anything where there are no inputs.
template <class T>
ProductPath path_of(std::int64_t rows, const Projection<T>& projection, const WeightLayout& weight) {
  return product_path(rows, projection.outputs(), projection.inputs(),
                      {.packed = is_packed(projection),
                       .transposed = weight.transposed,
                       .element_size = sizeof(T),
                       .kernel_vector_bytes = panel_kernels<T>().lanes * static_cast<int>(sizeof(T)),
                       .blas_vector_bytes = blas_vector_bytes()});
}

template <class T>
void project_by_panels(const GemmArguments<T>& product, const Projection<T>& projection, int num_threads,
                       std::byte* memory) {
  const T* const packed = is_packed(projection) ? projection.packed->panels() : nullptr;
  const PanelPlan plan =
      panels_of<T>(product.rows, product.columns, product.inner, resolved(num_threads), packed != nullptr);
  multiply_by_panels<T>(product, projection.bias, packed, plan, memory);
}

template <class T>
void project_by_blas(const TokenRows<T>& rows, GemmArguments<T> product, const Projection<T>& projection,
                     int num_threads) {
  product.accumulate = !projection.bias.empty() || product.inner == 0;
  if (product.accumulate) fill_with_bias(rows, projection.bias, product.columns, num_threads);
  if (product.inner > 0) gemm<T>(product, num_threads);
}

template <class T>
void project_rows(const TokenRows<T>& rows, const Projection<T>& projection, const WeightLayout& weight,
                  int num_threads, std::byte* memory) {
  const GemmArguments<T> product = product_of(rows, projection, weight);
  if (product.inner == 0) return project_by_blas(rows, product, projection, num_threads);
  switch (path_of(rows.count, projection, weight)) {
    case ProductPath::blas: return project_by_blas(rows, product, projection, num_threads);
    case ProductPath::panels: return project_by_panels(product, projection, num_threads, memory);
    case ProductPath::rows: return multiply_by_rows<T>(product, projection.bias, resolved(num_threads), memory);
  }
}

/// A packed projection whose bias may have been replaced since.
template <class T>
Projection<T> with_own_bias(const Projection<T>& projection) {
  if (projection.bias.empty() || projection.bias.data() == projection.packed->bias().data()) return projection;
  struct Owner {
    std::vector<T> bias;
    std::shared_ptr<const PackedWeight<T>> packed;
  };
  const auto owner = std::make_shared<const Owner>(
      Owner{{projection.bias.begin(), projection.bias.end()}, projection.packed});
  Projection<T> result = projection;
  result.bias = owner->bias;
  result.packed = {owner, owner->packed.get()};
  return result;
}

}  // namespace

template <class T>
std::optional<WeightLayout> weight_layout(const Projection<T>& projection) {
  const int input_axis = projection.order == WeightOrder::in_out ? 0 : 1;
  const std::int64_t inputs = projection.inputs();
  const std::int64_t outputs = projection.outputs();
  const std::int64_t input_stride = projection.weight.stride(input_axis);
  const std::int64_t output_stride = projection.weight.stride(1 - input_axis);
  if (projection.weight.empty()) return WeightLayout{false, std::max<std::int64_t>(outputs, 1)};
  if (outputs == 1 || output_stride == 1) {
    if (inputs == 1) return WeightLayout{false, outputs};
    if (input_stride >= outputs) return WeightLayout{false, input_stride};
  }
  if (inputs == 1 || input_stride == 1) {
    if (outputs == 1) return WeightLayout{true, inputs};
    if (output_stride >= inputs) return WeightLayout{true, output_stride};
  }
  return std::nullopt;
}

template <class T>
std::size_t projection_workspace_bytes(std::int64_t rows, const Projection<T>& projection, int num_threads) {
  const std::int64_t inputs = projection.inputs(), outputs = projection.outputs();
  if (inputs == 0) return 0;
  const WeightLayout weight = *weight_layout(projection);
  const int threads = resolved(num_threads);
  // Fewer rows may go another way than all of them.
  std::size_t bytes = 0;
  const std::int64_t few = std::min(rows, few_rows(weight.transposed));
  if (path_of(few, projection, weight) == ProductPath::rows) {
    bytes = row_product_bytes<T>(few, inputs, outputs, weight.transposed, threads);
  }
  if (path_of(std::min(rows, blas_rows - 1), projection, weight) == ProductPath::panels) {
    const PanelPlan plan = panels_of<T>(rows, outputs, inputs, threads, is_packed(projection));
    bytes = std::max(bytes, panel_bytes<T>(plan) * static_cast<std::size_t>(plan.most_threads));
  }
  return bytes;
}

template <class T>
Projection<T> packed_projection(const Projection<T>& projection) {
  if (is_packed(projection)) return with_own_bias(projection);
  const WeightLayout weight = *weight_layout(projection);
  const TokenRows<T> none{0, nullptr, 0, nullptr, 0};
  const auto packed = std::make_shared<const PackedWeight<T>>(product_of(none, projection, weight), projection.bias);
  Projection<T> result = projection;
  result.weight.data = nullptr;
  result.bias = packed->bias();
  result.packed = packed;
  return result;
}

template <class T>
std::array<std::int64_t, 2> packed_extents(const Projection<T>& projection) {
  return projection.packed->extents();
}

template <class T>
void run_projection(const TensorView<const T, 3>& input, const Projection<T>& projection,
                    const TensorView<T, 3>& output, int num_threads, std::byte* workspace) {
  if (output.empty()) return;
  const WeightLayout weight = *weight_layout(projection);
  const std::int64_t batch = output.extent(0);
  const std::int64_t tokens = output.extent(1);
  const auto input_stride = common_row_stride(input);
  const auto output_stride = common_row_stride(output);
  if (input_stride && output_stride) {
    const TokenRows<T> all{batch * tokens, input.data, *input_stride, output.data, *output_stride};
    project_rows(all, projection, weight, num_threads, workspace);
    return;
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    const T* const first = input.empty() ? input.data : input.data + b * input.stride(0);
    const TokenRows<T> entry{tokens, first, input.stride(1), output.data + b * output.stride(0), output.stride(1)};
    project_rows(entry, projection, weight, num_threads, workspace);
  }
}

template std::optional<WeightLayout> weight_layout(const Projection<float>&);
template std::optional<WeightLayout> weight_layout(const Projection<double>&);
template std::size_t projection_workspace_bytes(std::int64_t, const Projection<float>&, int);
template std::size_t projection_workspace_bytes(std::int64_t, const Projection<double>&, int);
template Projection<float> packed_projection(const Projection<float>&);
template Projection<double> packed_projection(const Projection<double>&);
template std::array<std::int64_t, 2> packed_extents(const Projection<float>&);
template std::array<std::int64_t, 2> packed_extents(const Projection<double>&);
template void run_projection(const TensorView<const float, 3>&, const Projection<float>&, const TensorView<float, 3>&,
                             int, std::byte*);
template void run_projection(const TensorView<const double, 3>&, const Projection<double>&,
                             const TensorView<double, 3>&, int, std::byte*);

}  // namespace headwise::detail
