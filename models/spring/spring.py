#!/usr/bin/env python3
"""Discharge of a spring, day by day, from precipitation and temperature.

    spring.py INPUT_DIR OUTPUT_DIR

Snow falls below 0 degrees and melts by a degree-day factor. What rains or melts fills the soil,
from which plants drink; what the soil cannot hold recharges two linear reservoirs, a fast one
(wide cracks in the rock) and a slow one (fine pores). Their outflow is the spring's.

Nothing but Python's standard library. Exit codes: 0 done; 2 a value in the input cannot be.
"""

import csv
import datetime
import math
import struct
import sys
import zlib
from pathlib import Path

# By name: what it is when parameters.csv says nothing, the least and the most it may be.
PARAMETERS = {
    "area": (12.0, 0.01, 100000),  # km2 of land that drains to the spring
    "melt": (3.5, 0.1, 20),  # mm of snow that melt for each degree and day
    "soil": (90.0, 1, 1000),  # mm of water that the soil can hold
    "thirst": (0.19, 0, 2),  # mm that evaporate from a wet soil for each degree and day
    "share": (0.35, 0, 1),  # of the recharge that takes the fast way
    "fast": (6.0, 1, 100),  # days in which the fast reservoir would empty
    "slow": (120.0, 1, 10000),  # and the slow one
}
RANGES = {"precipitation": (0, 1000), "temperature": (-80, 60)}  # mm a day; degrees Celsius


class Bad(Exception):
    """Something in the input cannot be. The message is for whoever sent it."""


def rows(path, *columns):
    """(line number, row by column) of a CSV file, parted by commas, semicolons or tabs.

    That it has these ``columns`` was checked before it came here: see model.toml.
    """

    def found(separator):
        return len({*columns} & {*next(csv.reader([header], delimiter=separator))})

    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline()
        file.seek(0)
        reader = csv.DictReader(file, delimiter=max(",;\t", key=found))
        for row in reader:
            if any(row.values()):
                yield reader.line_num, row


def number(row, column, least, most):
    """The number in a column; a decimal comma will do. Raises ValueError with what is wrong."""
    text = (row[column] or "").strip()
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"{column} is {text!r}, which is no number") from None
    if not least <= value <= most:
        raise ValueError(f"{column} is {text}; it must lie between {least} and {most}")
    return value


def read_climate(path):
    """[(date, mm of precipitation, degrees)]. Raises Bad with the first ten wrong lines."""
    days, wrong, before = [], [], None
    for line, row in rows(path, "date", *RANGES):
        try:
            date, last = datetime.date.fromisoformat((row["date"] or "").strip()), before
            before = date
            if last and date != last + datetime.timedelta(1):
                raise ValueError(f"{date} does not follow {last}: a day is missing or twice")
            values = (number(row, name, *RANGES[name]) for name in RANGES)
            days.append((date, *values))
        except ValueError as e:
            said = str(e).replace("Invalid isoformat string:", "the date must be YYYY-MM-DD, not")
            wrong.append(f"{path.name}, line {line}: {said}")
            if len(wrong) == 10:
                break
    if wrong:
        raise Bad("\n".join(wrong))
    if len(days) < 30:
        raise Bad(f"{path.name}: it has {len(days)} days; at least 30 are needed")
    return days


def read_parameters(path):
    """All parameters by name. Raises Bad."""
    known = {name: value for name, (value, _, _) in PARAMETERS.items()}
    for line, row in rows(path, "name", "value") if path.exists() else ():
        name = (row["name"] or "").strip()
        if name not in known:
            raise Bad(f"{path.name}, line {line}: {name!r} is none of {', '.join(known)}")
        try:
            known[name] = number(row, "value", *PARAMETERS[name][1:])
        except ValueError as e:
            raise Bad(f"{path.name}, line {line}, {name}: {e}") from None
    return known


def simulate(days, p):
    """For each day (m3/s of discharge, and in mm: snow, soil water, evaporation, recharge)."""
    snow, soil, fast, slow = 0.0, p["soil"] / 2, 0.0, 60.0
    for day_number, (date, rain, degrees) in enumerate(days):
        if degrees <= 0:
            snow, water = snow + rain, 0.0
        else:
            melted = min(snow, p["melt"] * degrees)
            snow, water = snow - melted, rain + melted
        evaporated = min(soil, p["thirst"] * max(degrees, 0) * soil / p["soil"])
        soil += water - evaporated
        recharge = max(0.0, soil - p["soil"])
        soil -= recharge
        fast += p["share"] * recharge
        slow += (1 - p["share"]) * recharge
        # What a linear reservoir loses within one day.
        out_fast = fast * (1 - math.exp(-1 / p["fast"]))
        out_slow = slow * (1 - math.exp(-1 / p["slow"]))
        fast, slow = fast - out_fast, slow - out_slow
        yield (out_fast + out_slow) * p["area"] * 1000 / 86400, snow, soil, evaporated, recharge
        if (date.month, date.day) == (12, 31) or day_number == len(days) - 1:
            print(f"::progress {90 * (day_number + 1) // len(days)} computed to {date}", flush=True)


# --- the picture: a canvas of red, green, blue, written as PNG ---------------------------

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1200, 600, 90, 30, 40, 50
WHITE, INK, GRID = (255, 255, 255), (60, 66, 74), (225, 229, 233)
RAIN, LINE, FILL = (120, 170, 205), (16, 76, 140), (222, 235, 246)
# Letters of 3 by 5 dots: one octal digit for each row.
FONT = dict(zip(
    "0123456789./ ACDEGHIMNOPRSTY",
    (0o75557, 0o26227, 0o71747, 0o71717, 0o55711, 0o74717, 0o74757, 0o71122, 0o75757, 0o75717,
     0o00002, 0o11244, 0o00000, 0o25755, 0o74447, 0o65556, 0o74647, 0o74557, 0o55755, 0o72227,
     0o57755, 0o75555, 0o75557, 0o75744, 0o65655, 0o34216, 0o72222, 0o55222),
    strict=True,
))  # fmt: skip


class Canvas:
    def __init__(self):
        self.pixels = bytearray(bytes(WHITE) * WIDTH * HEIGHT)

    def box(self, x, y, width, height, colour, strength=1.0):
        """Fill a rectangle; a ``strength`` below 1 lets what lies beneath shine through."""
        for row in range(max(y, 0), min(y + height, HEIGHT)):
            at = 3 * (row * WIDTH + x)
            if strength < 1:
                under = self.pixels[at : at + 3]
                mixed = (round(u + (c - u) * strength) for u, c in zip(under, colour, strict=True))
                self.pixels[at : at + 3 * width] = bytes(mixed) * width
            else:
                self.pixels[at : at + 3 * width] = bytes(colour) * width

    def column(self, x, top, bottom, colour):
        """Fill one column from ``top`` to ``bottom``, which need not be whole: soft ends."""
        first, last = math.ceil(top), math.floor(bottom)
        if last < first:  # within one pixel
            self.box(x, last, 1, 1, colour, bottom - top)
            return
        self.box(x, first - 1, 1, 1, colour, first - top)
        self.box(x, last, 1, 1, colour, bottom - last)
        for part, value in enumerate(colour):
            every_line = slice(3 * (first * WIDTH + x) + part, 3 * last * WIDTH, 3 * WIDTH)
            self.pixels[every_line] = bytes([value]) * (last - first)

    def text(self, x, y, text, dot=2):
        for letter in text:
            for place in range(15):
                if FONT[letter] >> (14 - place) & 1:
                    self.box(x + place % 3 * dot, y + place // 3 * dot, dot, dot, INK)
            x += 4 * dot

    def save(self, path):
        def chunk(kind, data):
            crc = struct.pack(">I", zlib.crc32(kind + data))
            return struct.pack(">I", len(data)) + kind + data + crc

        size = 3 * WIDTH
        lines = (b"\0" + self.pixels[at : at + size] for at in range(0, len(self.pixels), size))
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">2I5B", WIDTH, HEIGHT, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"".join(lines), 6))
            + chunk(b"IEND", b"")
        )


def step_for(most):
    """A round distance of marks, so that three to seven of them reach ``most``."""
    power = 10 ** math.floor(math.log10(most / 3))
    return max(step for step in (power, 2 * power, 5 * power) if step <= most / 3)


def draw(path, days, discharge):
    """Precipitation as bars from above, discharge as a line."""
    canvas = Canvas()
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    floor = TOP + height
    most_rain = max(1.0, *(day[1] for day in days))
    most = max(0.001, *discharge) * 1.05
    scale_rain, scale = height * 0.3 / most_rain, height * 0.65 / most
    last = len(days) - 1

    def marks(step, most, place):
        for mark in range(1 + int(most / step)):
            label = f"{mark * step:.{max(0, -math.floor(math.log10(step)))}f}"
            y = round(place(mark * step))
            canvas.box(LEFT, y, width, 1, GRID)
            canvas.text(LEFT - 8 - 8 * len(label), y - 5, label)

    marks(step_for(most), most, lambda value: floor - value * scale)
    marks(step_for(most_rain), most_rain, lambda value: TOP + value * scale_rain)
    for index, (date, _, _) in enumerate(days):
        if date.day == 1 and (date.month == 1 or last < 500):
            x = LEFT + index * (width - 1) // last
            canvas.box(x, TOP, 1, height, GRID)
            canvas.text(x + 4, floor + 10, str(date.year) if date.month == 1 else str(date.month))
    for x in range(width):
        # The days that fall into this column, and what a straight line between two of them has.
        begin, end = x * last / width, (x + 1) * last / width
        inside = range(math.ceil(begin), math.floor(end) + 1)
        ends = []
        for at in (begin, end):
            day = min(int(at), last - 1)
            ends.append(discharge[day] + (at - day) * (discharge[day + 1] - discharge[day]))
        values = [*ends, *(discharge[day] for day in inside)]
        top, low = floor - max(values) * scale, floor - min(values) * scale
        canvas.column(LEFT + x, top, floor, FILL)
        canvas.column(LEFT + x, top - 1.2, low + 1.2, LINE)
        rain = max(days[day][1] for day in (round(begin), *inside))
        canvas.column(LEFT + x, TOP, TOP + rain * scale_rain, RAIN)
    canvas.box(LEFT, TOP, width, 1, INK)
    canvas.box(LEFT, floor, width, 1, INK)
    canvas.box(LEFT, TOP, 1, height + 1, INK)
    canvas.box(LEFT, 17, 20, 10, RAIN)
    canvas.text(LEFT + 28, 17, "PRECIPITATION MM/DAY")
    canvas.box(LEFT + 240, 20, 20, 3, LINE)
    canvas.text(LEFT + 268, 17, "DISCHARGE M3/S")
    canvas.save(path)


def write_csv(path, days, results):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        names = ("discharge_m3s", "snow_mm", "soil_mm", "evaporation_mm", "recharge_mm")
        writer.writerow(["date", *names])
        for (date, _, _), (discharge, *mm) in zip(days, results, strict=True):
            writer.writerow([date, f"{discharge:.4f}", *(f"{value:.2f}" for value in mm)])


def summary(days, results, p):
    """The result in a few lines."""
    discharge = [day[0] for day in results]
    highest = max(range(len(days)), key=discharge.__getitem__)
    lowest = min(range(len(days)), key=discharge.__getitem__)
    rain = sum(day[1] for day in days)
    evaporated, recharge = (sum(result[place] for result in results) for place in (3, 4))
    return f"""Spring discharge, {days[0][0]} to {days[-1][0]} ({len(days)} days)

Mean discharge     {sum(discharge) / len(days):8.3f} m3/s
Highest            {discharge[highest]:8.3f} m3/s on {days[highest][0]}
Lowest             {discharge[lowest]:8.3f} m3/s on {days[lowest][0]}
Precipitation      {rain:8.0f} mm
Evaporation        {evaporated:8.0f} mm
Recharge           {recharge:8.0f} mm ({recharge / rain if rain else 0:.0%} of the precipitation)
Snow at the end    {results[-1][1]:8.0f} mm

Parameters: {", ".join(f"{name} {value:g}" for name, value in p.items())}
"""


def main():
    source, output = Path(sys.argv[1]), Path(sys.argv[2])
    print("::progress 1 reading climate.csv", flush=True)
    try:
        days = read_climate(source / "climate.csv")
        parameters = read_parameters(source / "parameters.csv")
    except Bad as e:
        # The last line is what people see first.
        print(f"Correct this, zip the files and send them again:\n{e}", file=sys.stderr)
        return 2
    print(f"climate.csv: {len(days)} days, {days[0][0]} to {days[-1][0]}", flush=True)
    results = list(simulate(days, parameters))
    write_csv(output / "discharge.csv", days, results)
    (output / "summary.txt").write_text(summary(days, results, parameters), encoding="utf-8")
    print("::progress 92 drawing", flush=True)
    draw(output / "discharge.png", days, [day[0] for day in results])
    print((output / "summary.txt").read_text(encoding="utf-8"))
    print("::progress 100 done: discharge.png, discharge.csv, summary.txt", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
