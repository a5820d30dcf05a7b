from Cython.Build import cythonize
from setuptools import setup

setup(name="scheduler", version="1", ext_modules=cythonize("scheduler.pyx"), install_requires=["mmgen-grace"])
