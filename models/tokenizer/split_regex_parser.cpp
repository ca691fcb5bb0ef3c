#include "models/tokenizer/split_regex_parser.h"

#include <algorithm>
#include <string>

namespace moe {
namespace {

constexpr int kMaxRepeat = 64;
constexpr int kMaxDepth = 32;
constexpr size_t kMaxInstructions = 4096;

struct Node {
  enum Kind : uint8_t { kEmpty, kSet, kLookahead, kSequence, kChoice, kRepeat };
  Kind kind = kEmpty;
  bool negated = false;       // kLookahead
  int set = -1;               // kSet, kLookahead
  int min = 0, max = 0;       // kRepeat; max -1 = unbounded
  std::vector<int> children;  // in the order of the pattern
};

// Recursive descent: choice := sequence ('|' sequence)*, sequence := (atom quantifier?)*.
class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {}

  Result<RegexProgram> parse() {
    const int root = choice();
    if (error_.ok() && !at_end()) fail("')' without '('");
    if (!error_.ok()) return error_;
    const int match = emit({RegexInstruction::kMatch});
    program_.start = generate(root, match);
    if (program_.code.size() > kMaxInstructions) fail("too many repetitions");
    if (!error_.ok()) return error_;
    return std::move(program_);
  }

 private:
  bool at_end() const { return pos_ >= pattern_.size(); }
  bool take(std::string_view s) {
    if (pattern_.substr(std::min(pos_, pattern_.size()), s.size()) != s) return false;
    pos_ += s.size();
    return true;
  }
  int fail(const std::string& what) {
    if (error_.ok()) {
      error_ = Status::Unsupported("regex '" + std::string(pattern_) + "', offset " + std::to_string(pos_) + ": " + what);
    }
    pos_ = pattern_.size();
    return add({});
  }
  int add(Node node) {
    nodes_.push_back(std::move(node));
    return static_cast<int>(nodes_.size()) - 1;
  }
  int intern(CharSet set) {
    const auto found = std::find(program_.sets.begin(), program_.sets.end(), set);
    if (found != program_.sets.end()) return static_cast<int>(found - program_.sets.begin());
    program_.sets.push_back(std::move(set));
    return static_cast<int>(program_.sets.size()) - 1;
  }
  uint32_t next_char() {
    const DecodedChar c = decode_utf8(pattern_.substr(pos_));
    if (c.state != Utf8::kValid) fail("not UTF-8");
    pos_ += c.length;
    return c.code_point;
  }

  int choice() {
    if (++depth_ > kMaxDepth) return fail("groups nested too deep");
    Node node{Node::kChoice, false, -1, 0, 0, {sequence()}};
    while (take("|")) node.children.push_back(sequence());
    --depth_;
    return add(std::move(node));
  }

  int sequence() {
    Node node{Node::kSequence, false, -1, 0, 0, {}};
    while (!at_end() && pattern_[pos_] != '|' && pattern_[pos_] != ')') node.children.push_back(quantified(atom()));
    return add(std::move(node));
  }

  int atom() {
    if (take("(?=")) return lookahead(false);
    if (take("(?!")) return lookahead(true);
    if (take("(?:") || take("(")) {
      const int inside = choice();
      return take(")") ? inside : fail("missing ')'");
    }
    // The end of the text is where no character follows: not even one of the complement of the empty set.
    if (take("$")) return add({Node::kLookahead, true, intern({{}, 0, false, true}), 0, 0, {}});
    return add({Node::kSet, false, intern(set()), 0, 0, {}});
  }

  int lookahead(bool negated) {
    const int inside = intern(set());
    if (!take(")")) return fail("look-ahead takes one character set");
    return add({Node::kLookahead, negated, inside, 0, 0, {}});
  }

  int quantified(int child) {
    if (take("?")) return add({Node::kRepeat, false, -1, 0, 1, {child}});
    if (take("*")) return add({Node::kRepeat, false, -1, 0, -1, {child}});
    if (take("+")) return add({Node::kRepeat, false, -1, 1, -1, {child}});
    if (!take("{")) return child;
    const int min = number();
    const int max = take(",") ? number() : min;
    if (!take("}") || min < 0 || max < min || max > kMaxRepeat) return fail("bad {m,n}");
    return add({Node::kRepeat, false, -1, min, max, {child}});
  }

  int number() {
    int value = -1;
    for (; !at_end() && pattern_[pos_] >= '0' && pattern_[pos_] <= '9' && value <= kMaxRepeat; ++pos_) {
      value = std::max(value, 0) * 10 + (pattern_[pos_] - '0');
    }
    return value;
  }

  // One character set: [..], an escape or a single character.
  CharSet set() {
    CharSet set;
    if (at_end() || std::string_view("()|?*+{}").find(pattern_[pos_]) != std::string_view::npos) {
      fail("expected a character");
      return set;
    }
    if (!take("[")) {
      item(set);
      return set;
    }
    set.negated = take("^");
    while (!take("]")) {
      if (at_end()) {
        fail("missing ']'");
        return set;
      }
      const bool single = item(set);
      if (!single || pos_ + 1 >= pattern_.size() || pattern_[pos_] != '-' || pattern_[pos_ + 1] == ']') continue;
      ++pos_;
      CharSet last;
      const bool range = item(last) && last.ranges[0].first >= set.ranges.back().first;
      if (!range) fail("bad range");
      if (range) set.ranges.back().second = last.ranges[0].first;
    }
    return set;
  }

  // Adds one character or escape to the set; true when it is a single character and so may open a range.
  bool item(CharSet& set) {
    if (!take("\\")) {
      const uint32_t c = next_char();
      set.ranges.push_back({c, c});
      return error_.ok();
    }
    if (take("p{")) return property(set), false;
    if (take("s")) return set.whitespace = true, false;
    if (take("S")) return set.whitespace = set.negated = true, false;
    if (take("d")) return set.categories |= category_mask("Nd"), false;
    if (at_end()) return fail("'\\' at the end"), false;
    uint32_t c = next_char();
    if (c == 'r') c = '\r';
    if (c == 'n') c = '\n';
    if (c == 't') c = '\t';
    set.ranges.push_back({c, c});
    return error_.ok();
  }

  void property(CharSet& set) {
    const size_t close = pattern_.find('}', pos_);
    const uint32_t mask = close == std::string_view::npos ? 0 : category_mask(pattern_.substr(pos_, close - pos_));
    if (mask == 0) {
      fail("unknown \\p{...}");
      return;
    }
    set.categories |= mask;
    pos_ = close + 1;
  }

  int emit(RegexInstruction instruction) {
    program_.code.push_back(instruction);
    return static_cast<int>(program_.code.size()) - 1;
  }

  // Code for a node that goes on to `next`; returns its first instruction. Built from the back, so `next` always exists.
  int generate(int index, int next) {
    if (program_.code.size() > kMaxInstructions) return next;
    const Node& node = nodes_[static_cast<size_t>(index)];
    switch (node.kind) {
      case Node::kEmpty:
        return next;
      case Node::kSet:
        return emit({RegexInstruction::kSet, false, node.set, next});
      case Node::kLookahead:
        return emit({RegexInstruction::kLookahead, node.negated, node.set, next});
      case Node::kSequence:
        for (auto child = node.children.rbegin(); child != node.children.rend(); ++child) next = generate(*child, next);
        return next;
      case Node::kChoice:
        return generate_choice(node, next);
      case Node::kRepeat:
        return generate_repeat(node, next);
    }
    return next;
  }

  int generate_choice(const Node& node, int next) {
    int first = generate(node.children.back(), next);
    for (size_t i = node.children.size() - 1; i-- > 0;) {
      first = emit({RegexInstruction::kSplit, false, -1, generate(node.children[i], next), first});
    }
    return first;
  }

  int generate_repeat(const Node& node, int next) {
    const int child = node.children[0];
    int first = next;
    if (node.max < 0) {
      const int loop = emit({RegexInstruction::kSplit, false, -1, -1, next});
      const int body = generate(child, loop);
      program_.code[static_cast<size_t>(loop)].next = body;
      first = loop;
    }
    for (int i = node.min; i < node.max; ++i) first = emit({RegexInstruction::kSplit, false, -1, generate(child, first), next});
    for (int i = 0; i < node.min; ++i) first = generate(child, first);
    return first;
  }

  std::string_view pattern_;
  size_t pos_ = 0;
  int depth_ = 0;
  Status error_;
  std::vector<Node> nodes_;
  RegexProgram program_;
};

}  // namespace

Result<RegexProgram> parse_regex(std::string_view pattern) { return Parser(pattern).parse(); }

}  // namespace moe
