#include "api/overlap.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace headwise::detail {
namespace {

__extension__ typedef __int128 Wide;  // holds any product of two 64-bit numbers

/// The equation Σ coefficient·x = target in integers 0 ≤ x ≤ maximum, one x per term.
///
/// The problem is NP-hard in the number of axes, but strides of real tensors nest: with the largest coefficient first,
/// the range of the remaining terms leaves a few x to try and their greatest common divisor fewer still. Near the idea
/// of NumPy's `shares_memory`; here the step by congruence makes the last two terms exact without a search.
class BoundedEquation {
 public:
  explicit BoundedEquation(Wide target) : target_(target) {}

  void add_term(Wide coefficient, Wide maximum);

  /// Whether a solution exists, or the search exceeded its budget.
  bool may_have_solution();

 private:
  struct Term {
    Wide coefficient, maximum;
    // Of this term and all after it:
    Wide reach = 0;    // largest sum
    Wide divisor = 0;  // greatest common divisor
    // x ≡ rest / divisor · inverse (mod step) makes the rest a multiple of the divisor of the terms after it.
    Wide step = 1, inverse = 0;
  };

  bool search(std::size_t index, Wide rest);

  // Tensors interleaved in one buffer take tens of nodes. 10,000 took 0.3 ms on a Xeon: the most that a call with
  // unrelated strides loses in one search before it is refused.
  static constexpr int kBudget = 10'000;

  // Four axes of each view and the bytes within an element of each.
  std::array<Term, 10> terms_;
  std::size_t size_ = 0;
  Wide target_;
  int nodes_ = 0;
};

Wide greatest_common_divisor(Wide a, Wide b) {
  while (b != 0) {
    a %= b;
    std::swap(a, b);
  }
  return a;
}

/// x in [0, modulus) with a·x ≡ 1 (mod modulus), for coprime a and modulus: the extended Euclidean algorithm.
Wide modular_inverse(Wide a, Wide modulus) {
  Wide remainder = modulus, next_remainder = a % modulus;
  Wide factor = 0, next_factor = 1;
  while (next_remainder != 0) {
    const Wide quotient = remainder / next_remainder;
    remainder -= quotient * next_remainder;
    std::swap(remainder, next_remainder);
    factor -= quotient * next_factor;
    std::swap(factor, next_factor);
  }
  return factor < 0 ? factor + modulus : factor;
}

void BoundedEquation::add_term(Wide coefficient, Wide maximum) {
  if (coefficient == 0 || maximum == 0) return;
  if (coefficient < 0) {  // count x down from its maximum instead
    target_ -= coefficient * maximum;
    coefficient = -coefficient;
  }
  for (std::size_t i = 0; i < size_; ++i) {
    if (terms_[i].coefficient == coefficient) {
      terms_[i].maximum += maximum;
      return;
    }
  }
  terms_[size_++] = Term{coefficient, maximum};
}

bool BoundedEquation::may_have_solution() {
  if (target_ == 0) return true;
  if (target_ < 0) return false;
  std::sort(terms_.begin(), terms_.begin() + static_cast<std::ptrdiff_t>(size_),
            [](const Term& a, const Term& b) { return a.coefficient > b.coefficient; });
  Wide reach = 0, divisor = 0;
  for (std::size_t i = size_; i-- > 0;) {
    Term& term = terms_[i];
    term.reach = reach += term.coefficient * term.maximum;
    const Wide divisor_after = divisor;
    term.divisor = divisor = greatest_common_divisor(term.coefficient, divisor_after);
    if (divisor_after == 0) continue;
    term.step = divisor_after / divisor;
    if (term.step > 1) term.inverse = modular_inverse(term.coefficient / divisor, term.step);
  }
  return search(0, target_);
}

bool BoundedEquation::search(std::size_t index, Wide rest) {
  if (index == size_) return rest == 0;
  const Term& term = terms_[index];
  if (rest > term.reach || rest % term.divisor != 0) return false;
  if (++nodes_ > kBudget) return true;

  if (index + 1 == size_) return true;  // a multiple of the coefficient, within reach
  const Wide reach_after = terms_[index + 1].reach;
  const Wide least = rest <= reach_after ? 0 : (rest - reach_after + term.coefficient - 1) / term.coefficient;
  const Wide most = std::min(term.maximum, rest / term.coefficient);
  const Wide residue = rest / term.divisor % term.step * term.inverse % term.step;
  const Wide first = least + (residue - least % term.step + term.step) % term.step;
  for (Wide x = first; x <= most; x += term.step) {
    if (search(index + 1, rest - x * term.coefficient)) return true;
  }
  return false;
}

}  // namespace

bool ElementView::empty() const {
  return std::any_of(extents.begin(), extents.begin() + rank, [](std::int64_t extent) { return extent <= 0; });
}

std::optional<AddressRange> address_range(const ElementView& view) {
  std::int64_t lowest = 0, highest = 0;  // in bytes from the address
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(view.rank); ++axis) {
    std::int64_t distance;
    if (__builtin_mul_overflow(view.strides[axis], view.extents[axis] - 1, &distance)) return std::nullopt;
    if (__builtin_mul_overflow(distance, view.element_size, &distance)) return std::nullopt;
    std::int64_t& end = distance < 0 ? lowest : highest;
    if (__builtin_add_overflow(end, distance, &end)) return std::nullopt;
  }
  AddressRange range;
  std::int64_t span;
  if (__builtin_add_overflow(highest, view.element_size - 1, &highest)) return std::nullopt;
  if (__builtin_sub_overflow(highest, lowest, &span) || span == INT64_MAX) return std::nullopt;
  if (__builtin_add_overflow(view.address, lowest, &range.first)) return std::nullopt;
  if (__builtin_add_overflow(view.address, highest, &range.last)) return std::nullopt;
  return range;
}

bool shares_element(const ElementView& a, const ElementView& b) {
  if (a.empty() || b.empty()) return false;
  const auto range_a = address_range(a), range_b = address_range(b);
  if (!range_a || !range_b) return true;
  if (!range_a->overlaps(*range_b)) return false;

  // address_a + Σ stride·x + byte = address_b + Σ stride·y + byte, in the largest unit that divides every number.
  const Wide distance = Wide{b.address} - Wide{a.address};
  const Wide unit =
      greatest_common_divisor(distance < 0 ? -distance : distance, std::gcd(a.element_size, b.element_size));
  BoundedEquation equation(distance / unit);
  for (const ElementView* view : {&a, &b}) {
    const Wide sign = view == &a ? 1 : -1;
    const Wide units = view->element_size / unit;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(view->rank); ++axis) {
      equation.add_term(sign * view->strides[axis] * units, view->extents[axis] - 1);
    }
    equation.add_term(sign, units - 1);
  }
  return equation.may_have_solution();
}

bool elements_coincide(const ElementView& view) {
  if (view.empty()) return false;
  if (!address_range(view)) return true;

  struct Axis {
    Wide stride, last;
  };
  std::array<Axis, 4> axes{};  // an axis with one element keeps stride 0 and sorts to the end
  std::size_t rank = 0;
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(view.rank); ++axis) {
    if (view.extents[axis] == 1) continue;
    if (view.strides[axis] == 0) return true;
    const Wide stride = view.strides[axis];
    axes[rank++] = {stride < 0 ? -stride : stride, view.extents[axis] - 1};
  }
  std::sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.stride > b.stride; });

  // Two elements coincide if Σ stride·difference = 0 for differences that are not all zero. By symmetry the first
  // difference that is not zero is positive. Where strides nest, the largest outweighs the rest: no search.
  for (std::size_t leading = 0; leading < rank; ++leading) {
    Wide reach_after = 0;
    for (std::size_t axis = leading + 1; axis < rank; ++axis) reach_after += axes[axis].stride * axes[axis].last;
    if (reach_after < axes[leading].stride) continue;

    BoundedEquation equation(reach_after - axes[leading].stride);
    equation.add_term(axes[leading].stride, axes[leading].last - 1);
    for (std::size_t axis = leading + 1; axis < rank; ++axis) equation.add_term(axes[axis].stride, 2 * axes[axis].last);
    if (equation.may_have_solution()) return true;
  }
  return false;
}

}  // namespace headwise::detail
