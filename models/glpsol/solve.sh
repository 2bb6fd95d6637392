#!/bin/bash
# Solves INPUT_DIR/problem.lp; writes solution.txt, report.txt and glpsol.log.
# Exit codes: 0 solved, or proved to have no (finite) solution: that is a result, and
# the report's first line says which; 2 the problem cannot be read; 3 glpsol failed;
# 127 glpsol is not installed.
set -euo pipefail
input=$1
output=$2
limit=${GLPSOL_TIME_LIMIT:-3000}

if ! command -v glpsol > /dev/null; then
    echo "glpsol is not installed on this worker ($HOSTNAME): apt-get install glpk-utils" >&2
    exit 127
fi
if ! [ -s "$input/problem.lp" ]; then
    echo "The file problem.lp is missing or empty: it must hold a program in CPLEX LP format." >&2
    exit 2
fi

echo "::progress 1 solving"
# Relative names in glpsol's messages are shorter to read.
cd -- "$input"
code=0
glpsol --lp problem.lp --tmlim "$limit" -o "$output/solution.txt" 2>&1 |
    tee "$output/glpsol.log" || code=${PIPESTATUS[0]}

if ! grep -qE '(line was|lines were) read' "$output/glpsol.log"; then
    echo "problem.lp cannot be read as a program in CPLEX LP format. What glpsol says:" >&2
    grep -E '^problem\.lp:[0-9]+:' "$output/glpsol.log" >&2 || tail -n 3 "$output/glpsol.log" >&2
    rm -f -- "$output/solution.txt"
    exit 2
fi
if [ "$code" -ne 0 ] || ! [ -s "$output/solution.txt" ]; then
    echo "glpsol ended with exit code $code and without a solution; see glpsol.log." >&2
    exit 3
fi

says() { grep -qE "^(PROBLEM|LP|LP RELAXATION) HAS $1" "$output/glpsol.log"; }
field() { sed -n "s/^$1: *//p" "$output/solution.txt" | head -n 1; }
status=$(field Status)
objective=none
if [[ $status == *OPTIMAL && $status != *NON-OPTIMAL ]]; then
    finding=$status
    objective=$(field Objective)
elif says 'NO (PRIMAL |INTEGER )?FEASIBLE SOLUTION'; then
    finding="INFEASIBLE: no solution satisfies all constraints"
elif says 'UNBOUNDED'; then
    finding="UNBOUNDED: the objective improves without limit; a constraint is missing"
elif says 'NO DUAL FEASIBLE SOLUTION'; then
    finding="UNBOUNDED OR INFEASIBLE: there is no best solution; a constraint is missing or wrong"
elif [[ $status == *UNDEFINED ]]; then
    finding="NOT SOLVED: no solution was found within $limit seconds"
else
    finding="NOT PROVED OPTIMAL: the best solution found within $limit seconds ($status)"
    objective=$(field Objective)
fi

{
    echo "Result:     $finding"
    echo "Objective:  $objective"
    echo "Rows:       $(field Rows)"
    echo "Columns:    $(field Columns)"
    echo "Solver:     $(glpsol --version | head -n 1)"
    echo
    if [ "$objective" = none ]; then
        echo "The values in solution.txt mean nothing. What glpsol said is in glpsol.log."
    else
        echo "Each row and column with its value is in solution.txt, what glpsol said in glpsol.log."
    fi
} > "$output/report.txt"

echo
cat -- "$output/report.txt"
echo "::progress 100 ${finding%%:*}"
