// Says what RE2 itself says, with the options that Envoy uses, for re2.txt:
//   apt install libre2-dev && g++ -o /tmp/re2 test/regex/re2.cc -lre2
//   /tmp/re2 <test/regex/re2.txt >/tmp/re2.txt && mv /tmp/re2.txt test/regex/re2.txt
// Lines: `? R` a regular expression, `! R` one that is refused; behind the former `+ T` and `- T`: texts that match, and
// texts that do not. Bytes that are not printable, and `%`, are written as %41. The sign of a line that is read does not
// matter, but for `?` and `!` against the others.
#include <re2/re2.h>

#include <iostream>
#include <memory>
#include <string>

static std::string decoded(const std::string &text) {
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '%') {
      out += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

int main() {
  std::unique_ptr<RE2> regex;
  for (std::string line; std::getline(std::cin, line);) {
    std::string content = line.substr(2);
    char sign;
    if (line[0] == '?' || line[0] == '!') {
      regex = std::make_unique<RE2>(decoded(content), RE2::Quiet);
      sign = regex->ok() ? '?' : '!';
    } else {
      sign = RE2::FullMatch(decoded(content), *regex) ? '+' : '-';
    }
    std::cout << sign << ' ' << content << '\n';
  }
}
