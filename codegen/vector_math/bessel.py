"""The modified Bessel functions of order 0 and 1.

Up to 8 polynomials in x**2 without cancellation, beyond exp(x) / sqrt(x) times polynomials in 16 / x - 1. Coefficients:
Chebyshev fits by `mpmath.chebyfit` at 45 digits.
"""

import numpy as np

from graphc.codegen.vector_math.exponential import scaled_exp
from graphc.codegen.vector_math.lowering import (
    DOUBLE,
    SINGLE,
    Format,
    Number,
    absolute,
    copy_sign,
    in_double,
    intrinsic,
    polynomial,
    vectorizable,
    where,
)

# i0(x) as a function of x**2 <= 64
_I0_NEAR = {
    SINGLE: (
        1.0000000096440285,
        0.24999996354886006,
        0.01562502273355742,
        0.00043402225851675737,
        6.782369669477712e-06,
        6.77672974087871e-08,
        4.731728462262995e-10,
        2.3391768409352645e-12,
        1.054368542851795e-14,
        1.6166195205946318e-17,
        1.481667925190832e-19,
    ),
    DOUBLE: (
        1.0,
        0.25,
        0.015625000000000007,
        0.00043402777777777445,
        6.781684027778812e-06,
        6.781684027758202e-08,
        4.709502797312111e-10,
        2.4028075474081917e-12,
        9.385967122158306e-15,
        2.896902788810415e-17,
        7.242279005317181e-20,
        1.4962822964042478e-22,
        2.5987841051325663e-25,
        3.829411247002327e-28,
        5.0327117729737235e-31,
        4.601357767863732e-34,
        8.487698345602824e-37,
    ),
}
# i1(x) / x likewise
_I1_NEAR = {
    SINGLE: (
        0.5000000003840416,
        0.06249999854841198,
        0.0026041675721136764,
        5.425325233734064e-05,
        6.781957300590385e-07,
        5.649427522292879e-09,
        3.372802420548722e-11,
        1.476321529369206e-13,
        5.678116391053078e-16,
        9.338660340700415e-19,
        6.358902396902893e-21,
    ),
    DOUBLE: (
        0.5,
        0.0625,
        0.002604166666666667,
        5.425347222222213e-05,
        6.781684027778059e-07,
        5.651403356476159e-09,
        3.363930569400616e-11,
        1.5017547178772907e-13,
        5.214426141593576e-16,
        1.44845153192735e-18,
        3.291941257933586e-21,
        6.234584831530237e-24,
        9.994221689502959e-27,
        1.3687885297024527e-29,
        1.6696390898900487e-32,
        1.47105648860311e-35,
        2.4334892279361836e-38,
    ),
}
# exp(-x) sqrt(x) i0(x) as a function of t = 16 / x - 1, -1 <= t <= 1
_I0_FAR = {
    SINGLE: (
        0.4021765094053054,
        0.0033605520313900634,
        0.000136217407834547,
        1.1141542189580863e-05,
        1.4754756356201013e-06,
        3.0383309086686276e-07,
        1.0910232941075882e-07,
        3.3635802235185296e-08,
    ),
    DOUBLE: (
        0.4021765094450081,
        0.0033605519836678913,
        0.00013621607438951463,
        1.114303378845176e-05,
        1.4838476780922646e-06,
        2.9735992084667734e-07,
        8.872014585661555e-08,
        3.932512321137824e-08,
        2.156780676115673e-08,
        7.559364098665437e-09,
        -6.856484545962442e-09,
        -1.3427511481900905e-08,
        -5.0175940345046716e-09,
        7.600254486433509e-09,
        6.522264862032271e-09,
        -3.5862834111582305e-09,
        -4.5305710768621196e-09,
        1.6084886155781772e-09,
        2.163681278413876e-09,
        -6.327909921997027e-10,
        -6.494591114401118e-10,
        1.7698085539456536e-10,
        9.114760157514253e-11,
        -2.4421972688131832e-11,
    ),
}
# exp(-x) sqrt(x) i1(x) likewise
_I1_FAR = {
    SINGLE: (
        0.3893984590744713,
        -0.009749577241315432,
        -0.00021923738535629923,
        -1.5037047143805947e-05,
        -1.8250069387125121e-06,
        -3.5481954165334105e-07,
        -1.2318419674047784e-07,
        -3.7856024793316294e-08,
    ),
    DOUBLE: (
        0.38939845902587233,
        -0.009749577193235765,
        -0.00021923576383137776,
        -1.5038547198221758e-05,
        -1.8349102493990178e-06,
        -3.4838563464253135e-07,
        -1.0001075046243961e-07,
        -4.3128498031006734e-08,
        -2.3394122958362557e-08,
        -8.432168972932417e-09,
        6.84757829926934e-09,
        1.4051746928735543e-08,
        5.5720183980930355e-09,
        -7.687251308765992e-09,
        -6.9444186339873875e-09,
        3.501765193290176e-09,
        4.763780078020254e-09,
        -1.5218214060680734e-09,
        -2.2624401109204446e-09,
        5.870664618471487e-10,
        6.7727478454462e-10,
        -1.6283264322621244e-10,
        -9.491890392992048e-11,
        2.2421768596847442e-11,
    ),
}
# Beyond it both are infinite; their exponential, before that, but for a scale.
_MOST = 715.0
_SCALE_BITS = 8


@vectorizable
def i0(x: Number) -> Number:
    """The modified Bessel function of order 0."""
    return in_double(_i0, x)


def _i0(form: Format, x: Number) -> Number:
    size = absolute(x)
    return where(size < 8, polynomial(_small_square(size), _I0_NEAR[form]), _far(size, _I0_FAR[form]))


@vectorizable
def i1(x: Number) -> Number:
    """The modified Bessel function of order 1, the slope of `i0`."""
    return in_double(_i1, x)


def _i1(form: Format, x: Number) -> Number:
    size = absolute(x)
    near = size * polynomial(_small_square(size), _I1_NEAR[form])
    return copy_sign(where(size < 8, near, _far(size, _I1_FAR[form])), x)


def _small_square(size: Number) -> Number:
    size = where(size < 8, size, 8.0)
    return size * size


def _far(size: Number, coefficients: tuple[float, ...]) -> Number:
    size = where(size > _MOST, _MOST, where(size < 8, 8.0, size))
    factor = polynomial(16 / size - 1, coefficients) / intrinsic("sqrt", np.sqrt, size)
    return scaled_exp(size, -_SCALE_BITS) * factor * 2.0**_SCALE_BITS
