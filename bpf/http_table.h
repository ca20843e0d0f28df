/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The automaton that reads the head of an HTTP/1 request (RFC 9112, 3 and 5), strictly: what servers do not all
 * understand in the same way has no transition here. Read-only data, which nobody can change once it is loaded.
 *
 * A byte has a class, and a state with a class leads to the next state. 0: no head continues so. */
#ifndef EA_HTTP_TABLE_H
#define EA_HTTP_TABLE_H

#include "config.h"

/* Classes of bytes, in an order in which the sets of the grammar are ranges:
 *   token    C_HASH to C_ALPHA
 *   path     C_MARK to C_COLON, and escapes; a path is read in segments
 *   query    C_PERCENT to C_BACKSLASH
 *   value    C_TAB to C_HIGH */
enum http_class {
  C_CONTROL,
  C_CONTROL_BLANK, /* what some servers take for white space: vertical tab, form feed, 1c to 1f */
  C_LF,
  C_CR,
  C_TAB,
  C_SPACE,
  C_HASH,
  C_PERCENT,
  C_MARK, /* of tokens and paths: ! $ & ' + ^ ` | ~ */
  C_STAR,
  C_HYPHEN, /* - _ */
  C_DOT,
  C_0,
  C_1,
  C_2,
  C_3,
  C_4,
  C_5,
  C_6,
  C_7,
  C_8, /* and 9 */
  C_A, /* and a: hexadecimal digits */
  C_B,
  C_C,
  C_D,
  C_E,
  C_F,
  C_UPPER_H,
  C_LOWER_H,
  C_UPPER_T,
  C_LOWER_T,
  C_UPPER_P,
  C_LOWER_P,
  C_ALPHA, /* all other letters */
  C_SUB,   /* of paths, not of tokens: ( ) , = @ " < > { } */
  C_OPENS, /* [ */
  C_CLOSES,
  C_COLON,
  C_SLASH,
  C_QUESTION,
  C_SEMICOLON,
  C_BACKSLASH,
  C_HIGH_BLANK, /* 85, a0: white space in Latin-1 */
  C_HIGH,       /* the rest of what is not ASCII */
  HTTP_CLASSES = 64
};

static const __u8 http_classes[256] = {
    [0x0b ... 0x0c] = C_CONTROL_BLANK,
    [0x1c ... 0x1f] = C_CONTROL_BLANK,
    ['\t'] = C_TAB,
    ['\n'] = C_LF,
    ['\r'] = C_CR,
    [' '] = C_SPACE,
    ['!'] = C_MARK,
    ['"'] = C_SUB,
    ['#'] = C_HASH,
    ['$'] = C_MARK,
    ['%'] = C_PERCENT,
    ['&' ... '\''] = C_MARK,
    ['(' ... ')'] = C_SUB,
    ['*'] = C_STAR,
    ['+'] = C_MARK,
    [','] = C_SUB,
    ['-'] = C_HYPHEN,
    ['.'] = C_DOT,
    ['/'] = C_SLASH,
    ['0'] = C_0,
    ['1'] = C_1,
    ['2'] = C_2,
    ['3'] = C_3,
    ['4'] = C_4,
    ['5'] = C_5,
    ['6'] = C_6,
    ['7'] = C_7,
    ['8' ... '9'] = C_8,
    [':'] = C_COLON,
    [';'] = C_SEMICOLON,
    ['<'] = C_SUB,
    ['='] = C_SUB,
    ['>'] = C_SUB,
    ['?'] = C_QUESTION,
    ['@'] = C_SUB,
    ['A'] = C_A,
    ['B'] = C_B,
    ['C'] = C_C,
    ['D'] = C_D,
    ['E'] = C_E,
    ['F'] = C_F,
    ['G'] = C_ALPHA,
    ['H'] = C_UPPER_H,
    ['I' ... 'O'] = C_ALPHA,
    ['P'] = C_UPPER_P,
    ['Q' ... 'S'] = C_ALPHA,
    ['T'] = C_UPPER_T,
    ['U' ... 'Z'] = C_ALPHA,
    ['['] = C_OPENS,
    ['\\'] = C_BACKSLASH,
    [']'] = C_CLOSES,
    ['^'] = C_MARK,
    ['_'] = C_HYPHEN,
    ['`'] = C_MARK,
    ['a'] = C_A,
    ['b'] = C_B,
    ['c'] = C_C,
    ['d'] = C_D,
    ['e'] = C_E,
    ['f'] = C_F,
    ['g'] = C_ALPHA,
    ['h'] = C_LOWER_H,
    ['i' ... 'o'] = C_ALPHA,
    ['p'] = C_LOWER_P,
    ['q' ... 's'] = C_ALPHA,
    ['t'] = C_LOWER_T,
    ['u' ... 'z'] = C_ALPHA,
    ['{'] = C_SUB,
    ['|'] = C_MARK,
    ['}'] = C_SUB,
    ['~'] = C_MARK,
    [0x80 ... 0x84] = C_HIGH,
    [0x85] = C_HIGH_BLANK,
    [0x86 ... 0x9f] = C_HIGH,
    [0xa0] = C_HIGH_BLANK,
    [0xa1 ... 0xff] = C_HIGH,
};

enum http_state {
  S_NOWHERE = 0,
  S_START,
  S_METHOD,
  S_TARGET, /* its first byte */
  S_STAR,
  S_SCHEME_1, /* h of http:// was read */
  S_SCHEME_2,
  S_SCHEME_3,
  S_SCHEME_4,
  S_SCHEME_5,
  S_SCHEME_6,
  /* Of an absolute URI. */
  S_HOST_FIRST,
  S_HOST,
  S_HOST_BRACKETS,
  S_HOST_BRACKETED,
  S_HOST_PORT,
  S_HOST_DIGITS,
  /* What CONNECT asks for: with a port. */
  S_PEER_FIRST,
  S_PEER,
  S_PEER_BRACKETS,
  S_PEER_BRACKETED,
  S_PEER_PORT,
  S_PEER_DIGITS,
  /* Of a segment of a path: nothing, one dot, two dots, more. */
  S_SLASH,
  S_DOT,
  S_DOTS,
  S_SEGMENT,
  S_ESCAPE, /* behind %; then by the first digit, as some bytes must not be escaped */
  S_ESCAPE_0,
  S_ESCAPE_2,
  S_ESCAPE_3,
  S_ESCAPE_46,
  S_ESCAPE_5,
  S_ESCAPE_7,
  S_ESCAPE_ANY,
  S_QUERY,
  S_VERSION, /* HTTP/1.0 or HTTP/1.1: letter by letter */
  S_VERSION_1,
  S_VERSION_2,
  S_VERSION_3,
  S_VERSION_4,
  S_VERSION_MAJOR,
  S_VERSION_DOT,
  S_VERSION_MINOR,
  S_REQUEST_CR,
  S_LINE,
  S_NAME,
  S_VALUE,
  S_VALUE_LF,
  S_END_LF,
  S_DONE,
  /* A first line that is no request's, up to its end: whether somebody else may take it for one. */
  S_LAX_BEFORE, /* its first word */
  S_LAX_WORD,
  S_LAX_LINE,  /* behind the word */
  S_LAX_CR,    /* the same, and a CR was read */
  S_LAX_FOUND, /* a target may have been read */
  S_LAX_FOUND_CR,
  HTTP_STATES = 64,
  /* With a state: there is something to note, see note_event(). */
  S_EVENT = 128
};

/* Sets of classes that lead to one state. */
#define TOKEN(s) [C_HASH... C_ALPHA] = (s)
#define NAME(s) [C_HYPHEN... C_ALPHA] = (s)
#define DIGIT(s) [C_0... C_8] = (s)
#define LETTER_DIGIT(s) [C_A... C_F] = (s)
#define HEX(s) DIGIT(s), LETTER_DIGIT(s)
#define BEFORE_DOT(s) [C_MARK... C_HYPHEN] = (s)
#define BEHIND_DOT(s) [C_0... C_COLON] = (s)
#define PLAIN(s) [C_MARK... C_COLON] = (s)
/* How a target goes on behind a host, and how it ends. */
#define TARGET_ENDS [C_SPACE] = S_VERSION | S_EVENT
#define PATH_BEGINS [C_SLASH] = S_SLASH | S_EVENT, [C_QUESTION] = S_QUERY | S_EVENT
#define REST_OF_SEGMENT [C_PERCENT] = S_ESCAPE, [C_QUESTION] = S_QUERY
/* What some take for the end of a word. */
#define BLANK_BUT_CR(s) [C_CONTROL_BLANK] = (s), [C_TAB... C_SPACE] = (s), [C_HIGH_BLANK] = (s)

static const __u8 http_next[HTTP_STATES][HTTP_CLASSES] = {
    [S_START] = {TOKEN(S_METHOD)},
    [S_METHOD] = {TOKEN(S_METHOD), [C_SPACE] = S_TARGET | S_EVENT},
    [S_TARGET] = {[C_SLASH] = S_SLASH, [C_STAR] = S_STAR, [C_LOWER_H] = S_SCHEME_1},
    [S_STAR] = {TARGET_ENDS},

    [S_SCHEME_1] = {[C_LOWER_T] = S_SCHEME_2},
    [S_SCHEME_2] = {[C_LOWER_T] = S_SCHEME_3},
    [S_SCHEME_3] = {[C_LOWER_P] = S_SCHEME_4},
    [S_SCHEME_4] = {[C_COLON] = S_SCHEME_5},
    [S_SCHEME_5] = {[C_SLASH] = S_SCHEME_6},
    [S_SCHEME_6] = {[C_SLASH] = S_HOST_FIRST},
    [S_HOST_FIRST] = {NAME(S_HOST), [C_OPENS] = S_HOST_BRACKETS},
    [S_HOST] = {NAME(S_HOST), [C_COLON] = S_HOST_PORT, PATH_BEGINS, TARGET_ENDS},
    [S_HOST_BRACKETS] = {HEX(S_HOST_BRACKETS), [C_COLON] = S_HOST_BRACKETS, [C_DOT] = S_HOST_BRACKETS,
                         [C_CLOSES] = S_HOST_BRACKETED},
    [S_HOST_BRACKETED] = {[C_COLON] = S_HOST_PORT, PATH_BEGINS, TARGET_ENDS},
    [S_HOST_PORT] = {DIGIT(S_HOST_DIGITS)},
    [S_HOST_DIGITS] = {DIGIT(S_HOST_DIGITS), PATH_BEGINS, TARGET_ENDS},

    [S_PEER_FIRST] = {NAME(S_PEER), [C_OPENS] = S_PEER_BRACKETS},
    [S_PEER] = {NAME(S_PEER), [C_COLON] = S_PEER_PORT},
    [S_PEER_BRACKETS] = {HEX(S_PEER_BRACKETS), [C_COLON] = S_PEER_BRACKETS, [C_DOT] = S_PEER_BRACKETS,
                         [C_CLOSES] = S_PEER_BRACKETED},
    [S_PEER_BRACKETED] = {[C_COLON] = S_PEER_PORT},
    [S_PEER_PORT] = {DIGIT(S_PEER_DIGITS)},
    [S_PEER_DIGITS] = {DIGIT(S_PEER_DIGITS), TARGET_ENDS},

    [S_SLASH] = {BEFORE_DOT(S_SEGMENT), [C_DOT] = S_DOT, BEHIND_DOT(S_SEGMENT), REST_OF_SEGMENT, TARGET_ENDS},
    [S_DOT] = {BEFORE_DOT(S_SEGMENT), [C_DOT] = S_DOTS, BEHIND_DOT(S_SEGMENT), [C_PERCENT] = S_ESCAPE},
    [S_DOTS] = {PLAIN(S_SEGMENT), [C_PERCENT] = S_ESCAPE},
    [S_SEGMENT] = {PLAIN(S_SEGMENT), [C_SLASH] = S_SLASH, REST_OF_SEGMENT, TARGET_ENDS},
    [S_ESCAPE] = {[C_0] = S_ESCAPE_0,
                  [C_1] = S_ESCAPE_ANY,
                  [C_2] = S_ESCAPE_2,
                  [C_3] = S_ESCAPE_3,
                  [C_4] = S_ESCAPE_46,
                  [C_5] = S_ESCAPE_5,
                  [C_6] = S_ESCAPE_46,
                  [C_7] = S_ESCAPE_7,
                  [C_8... C_F] = S_ESCAPE_ANY},
    /* Not NUL, not - . / (2d to 2f), not ; (3b), not \ and _ (5c, 5f), not ~ (7e), no letters and digits. */
    [S_ESCAPE_0] = {[C_1... C_F] = S_SEGMENT},
    [S_ESCAPE_2] = {[C_0... C_C] = S_SEGMENT},
    [S_ESCAPE_3] = {[C_A] = S_SEGMENT, [C_C... C_F] = S_SEGMENT},
    [S_ESCAPE_46] = {[C_0] = S_SEGMENT},
    [S_ESCAPE_5] = {[C_B] = S_SEGMENT, [C_D... C_E] = S_SEGMENT},
    [S_ESCAPE_7] = {[C_B... C_D] = S_SEGMENT, [C_F] = S_SEGMENT},
    [S_ESCAPE_ANY] = {HEX(S_SEGMENT)},
    [S_QUERY] = {[C_PERCENT... C_BACKSLASH] = S_QUERY, TARGET_ENDS},

    [S_VERSION] = {[C_UPPER_H] = S_VERSION_1},
    [S_VERSION_1] = {[C_UPPER_T] = S_VERSION_2},
    [S_VERSION_2] = {[C_UPPER_T] = S_VERSION_3},
    [S_VERSION_3] = {[C_UPPER_P] = S_VERSION_4},
    [S_VERSION_4] = {[C_SLASH] = S_VERSION_MAJOR},
    [S_VERSION_MAJOR] = {[C_1] = S_VERSION_DOT},
    [S_VERSION_DOT] = {[C_DOT] = S_VERSION_MINOR},
    [S_VERSION_MINOR] = {[C_0... C_1] = S_REQUEST_CR},
    [S_REQUEST_CR] = {[C_CR] = S_VALUE_LF},

    [S_LINE] = {TOKEN(S_NAME), [C_CR] = S_END_LF},
    [S_NAME] = {TOKEN(S_NAME), [C_COLON] = S_VALUE | S_EVENT},
    [S_VALUE] = {[C_TAB... C_HIGH] = S_VALUE, [C_CR] = S_VALUE_LF | S_EVENT},
    [S_VALUE_LF] = {[C_LF] = S_LINE},
    [S_END_LF] = {[C_LF] = S_DONE | S_EVENT},

    [S_LAX_BEFORE] = {BLANK_BUT_CR(S_LAX_BEFORE), [C_LF... C_CR] = S_LAX_BEFORE, TOKEN(S_LAX_WORD | S_EVENT)},
    [S_LAX_WORD] = {[C_HASH... C_BACKSLASH] = S_LAX_WORD,
                    BLANK_BUT_CR(S_LAX_LINE | S_EVENT),
                    [C_CR] = S_LAX_CR | S_EVENT},
    [S_LAX_LINE] = {[C_CONTROL... C_CONTROL_BLANK] = S_LAX_LINE,
                    [C_CR] = S_LAX_CR,
                    [C_TAB... C_MARK] = S_LAX_LINE,
                    [C_STAR] = S_LAX_FOUND,
                    [C_HYPHEN... C_COLON] = S_LAX_LINE,
                    [C_SLASH] = S_LAX_FOUND,
                    [C_QUESTION... C_HIGH] = S_LAX_LINE},
    [S_LAX_FOUND] = {[C_CONTROL... C_CONTROL_BLANK] = S_LAX_FOUND,
                     [C_CR] = S_LAX_FOUND_CR,
                     [C_TAB... C_HIGH] = S_LAX_FOUND},
    /* Behind a CR, nothing but LF: some take two CRs for the end of a head. */
};

#endif
